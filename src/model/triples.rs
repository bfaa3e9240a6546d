//! Three operations side by side: those in which the third can matter to the other two. All
//! interleavings with at most one preemption, and the common end check.

use super::pairs::*;

macro_rules! triples {
    ($($name:ident: $a:ident $b:ident $c:ident from $($from:ident)+;)*) => {
        $(#[test]
        fn $name() {
            side_by_side(1, &[table::$a, table::$b, table::$c], &[$($from),+]);
        })*
    };
}

triples! {
    adjust_earlier_ask: adjust earlier ask from ARMED EARLIER TWO;
    adjust_earlier_another: adjust earlier another from ARMED TWO;
    check_earlier_ask: check_early earlier ask from ARMED EARLIER TWO;
    check_earlier_del: check earlier del from ARMED;
    check_check_earlier: check check earlier from ARMED;
    check_check_del: check check del from ARMED LATER;
    check_check_del_sync: check check del_sync from ARMED;
    check_later_del_sync: check later del_sync from ARMED;
    clean_earlier_del: clean earlier del from ARMED LATER DEAD;
    clean_del_del_another: clean del del_another from TWO;
    adopt_del_del_another: adopt del del_another from TWO;
    runtimer_earlier_free: runtimer earlier free from ARMED;
    add_add_del: add add del from REMOVED DEAD;
    add_del_check: add del check from REMOVED;
    add_free_check: add free check from REMOVED;
    free_check_earlier: free check earlier from ARMED;
    free_trim_earlier: free trim earlier from ARMED DEAD;
    free_adopt_check: free adopt check from ARMED EARLIER;
    free_free_p_earlier: free free_p earlier from ARMED;
    detach_check_earlier: detach check earlier from ARMED;
    detach_check_del: detach check del from ARMED;
    shutdown_check_earlier: shutdown check earlier from ARMED;
    adopt_earlier_ask: adopt earlier ask_all from ARMED TWO;
    adopt_add_check: adopt add check from REMOVED;
    adopt_adjust_earlier: adopt adjust earlier from ARMED EARLIER;
    free_p_add_ask: free_p add ask_all from REMOVED DEAD;
    free_p_earlier_check: free_p earlier check from ARMED;
    free_p_another_ask: free_p another ask_all from ARMED;
    free_p_adopt_add: free_p adopt add from REMOVED ARMED;
    ask_ask_earlier: ask ask earlier from ARMED LATER;
    ask_ask_add: ask ask add from REMOVED DEAD;
    ask_earlier_later: ask earlier later from ARMED LATER TWO;
    ask_trim_another: ask_all trim another from DEAD;
    poll_poll_earlier: poll poll earlier from ARMED LATER;
    poll_check_earlier: poll check earlier from ARMED;
    poll_adopt_earlier: poll adopt earlier from ARMED;
    poll_free_p_add: poll free_p add from REMOVED;
}
