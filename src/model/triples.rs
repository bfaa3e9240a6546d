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
    adjust_adopt_ask: adjust adopt ask_all from EARLIER TWO;
    adjust_adjust_earlier: adjust adjust earlier from ARMED TWO;
    adjust_check_earlier: adjust check_early earlier from ARMED TWO;
    adjust_trim_earlier: adjust trim earlier from DEAD TWO;
    adjust_clean_another: adjust clean another from LATER TWO;
    runtimer_check_earlier: runtimer check earlier from ARMED;
    del_free_p_check: del free_p check from ARMED EARLIER;
    free_free_p_check: free free_p check from ARMED;
    free_adjust_earlier: free adjust earlier from ARMED EARLIER;
    del_sync_adopt_check: del_sync adopt check from ARMED;
    poll_adjust_earlier: poll adjust earlier from ARMED EARLIER;
    woken_poll_earlier: woken poll earlier from WAITED WOKEN;
    woken_woken_another: woken woken another from WAITED WOKEN;
    woken_adjust_earlier: woken adjust earlier from WAITED;
    woken_hand_over_earlier: woken hand_over earlier from WOKEN;
    woken_adopt_another: woken adopt another from WOKEN;
    woken_arm_in_call_poll: woken arm_in_call poll from WAITED WOKEN;
    hand_over_poll_earlier: hand_over poll earlier from WAITED WOKEN;
    hand_over_arm_in_call_poll: hand_over arm_in_call poll from WAITED WOKEN;
    hand_over_free_p_add: hand_over free_p add from WOKEN_ONE;
    arm_in_call_poll_earlier: arm_in_call poll earlier from WAITED;
    adopt_check_1_earlier: adopt check_1 earlier from ARMED APART;
    adopt_check_1_del: adopt check_1 del from ARMED APART;
    adopt_adjust_1_earlier: adopt adjust_1 earlier from EARLIER APART;
    adopt_ask_1_earlier: adopt ask_1 earlier from ARMED APART;
    adopt_trim_1_free: adopt trim_1 free from ARMED APART;
    adopt_adopt_back_earlier: adopt adopt_back earlier from ARMED APART;
    adopt_adopt_back_ask: adopt adopt_back ask_all from ARMED APART;
    free_p_check_1_add: free_p check_1 add from REMOVED DEAD;
    add_fast_add_del: add_fast add del from REMOVED;
    add_fast_del_check: add_fast del check from REMOVED FREED;
    add_fast_earlier_fast_look: add_fast earlier_fast look from REMOVED;
    add_fast_free_p_another: add_fast free_p another from REMOVED FREED;
    add_fast_trim_ask: add_fast trim ask from DEAD FREED;
    earlier_earlier_fast_look: earlier earlier_fast look from ARMED;
    later_earlier_fast_del_fast: later earlier_fast del_fast from ARMED;
    free_fast_check_earlier: free_fast check earlier from ARMED;
    free_fast_check_check: free_fast check check from ARMED;
    free_fast_add_check: free_fast add check from REMOVED;
    free_fast_adopt_check: free_fast adopt check from ARMED EARLIER;
    free_fast_trim_another: free_fast trim another from ARMED DEAD;
}
