//! How many processors the process may use: those that the kernel lets it run on, and no more than
//! its control groups give it time for, as std's available_parallelism has it, and Go. But std reads
//! files into memory that it asks for, and ends the process when there is none.

use std::ffi::CStr;
use std::io::Write as _;

/// A group's directory.
const LONGEST: usize = 4096;

/// At least 1.
pub(crate) fn cpus() -> usize {
    let quota = quota(c"/proc/self/cgroup", b"/sys/fs/cgroup");
    allowed().min(quota).max(1)
}

fn allowed() -> usize {
    // SAFETY: a set of ours and its size; of all zeros it is empty.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) == 0 {
            return usize::try_from(libc::CPU_COUNT(&set)).unwrap_or(1);
        }
        // More of them than the set has places for.
        usize::try_from(libc::sysconf(libc::_SC_NPROCESSORS_ONLN)).unwrap_or(1)
    }
}

/// The lines of `groups` are `number:controllers:path`; of the second version of control groups
/// there is one, with no controllers. The first version decides, where it has the processors.
fn quota(groups: &CStr, root: &[u8]) -> usize {
    let mut text = [0; 8192];
    let (mut first, mut second) = (None, None);
    for line in read(groups, &mut text).split(|&b| b == b'\n') {
        let mut fields = line.splitn(3, |&b| b == b':').skip(1);
        match (fields.next(), fields.next()) {
            (Some(b""), path) => second = path,
            (Some(on), path) if on.split(|&b| b == b',').any(|c| c == b"cpu") => first = path,
            _ => {}
        }
    }
    match (first, second) {
        (Some(path), _) => least(root, b"/cpu", path, |dir| {
            let quota = number(&file(dir, "cpu.cfs_quota_us")?)?;
            Some(quota / number(&file(dir, "cpu.cfs_period_us")?)?.max(1))
        }),
        (None, Some(path)) => least(root, b"", path, |dir| {
            let max = file(dir, "cpu.max")?;
            let mut words = max.splitn(2, |&b| b == b' ');
            Some(number(words.next()?)? / number(words.next()?)?.max(1))
        }),
        (None, None) => usize::MAX,
    }
}

/// The least of what the group's directory says and those above it do.
fn least(root: &[u8], at: &[u8], path: &[u8], says: impl Fn(&[u8]) -> Option<usize>) -> usize {
    let mut dir = [0; LONGEST];
    let mut rest = &mut dir[..];
    for part in [root, at, path] {
        if rest.write_all(part).is_err() {
            return usize::MAX;
        }
    }
    let mut len = root.len() + at.len() + path.len();
    let mut least = usize::MAX;
    while len >= root.len() + at.len() {
        least = says(&dir[..len]).map_or(least, |n| n.min(least));
        len = dir[..len].iter().rposition(|&b| b == b'/').unwrap_or(0);
    }
    least
}

/// What stands in a small file of this directory, filled up with zeros.
fn file(dir: &[u8], name: &str) -> Option<[u8; 64]> {
    let mut path = [0; LONGEST + 64];
    let mut rest = &mut path[..LONGEST + 63];
    rest.write_all(dir).ok()?;
    write!(rest, "/{name}").ok()?;
    let mut text = [0; 64];
    let there = !read(CStr::from_bytes_until_nul(&path).ok()?, &mut text).is_empty();
    there.then_some(text)
}

/// None: "max", or -1, which stands for no limit.
fn number(text: &[u8]) -> Option<usize> {
    let end = text
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

/// As much of the file as there is room for; nothing if it cannot be read.
fn read<'a>(path: &CStr, text: &'a mut [u8]) -> &'a [u8] {
    let mut len = 0;
    // SAFETY: a name that ends with 0, a descriptor of our own, and the room that is left.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            while let n @ 1.. = libc::read(fd, text[len..].as_mut_ptr().cast(), text.len() - len) {
                len += n.unsigned_abs();
            }
            libc::close(fd);
        }
    }
    &text[..len]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn cpus_as_many_as_std_says() {
        let n = std::thread::available_parallelism().map_or(1, |n| n.get());
        assert_eq!(cpus(), n);
    }

    /// Of a directory with these files, of which "groups" is what stands in /proc.
    fn quota_of(name: &str, files: &[(&str, &str)]) -> usize {
        let root = std::env::temp_dir().join(format!("gotimer-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let groups = CString::new(root.join("groups").as_os_str().as_bytes()).unwrap();
        let n = quota(&groups, root.as_os_str().as_bytes());
        fs::remove_dir_all(root).unwrap();
        n
    }

    #[test]
    fn cpus_of_the_second_version() {
        let files = [
            ("groups", "0::/a/b\n"),
            ("a/b/cpu.max", "900000 100000\n"),
            ("a/cpu.max", "250000 100000\n"),
            ("cpu.max", "max 100000\n"),
        ];
        assert_eq!(quota_of("second", &files), 2);
        assert_eq!(quota_of("second", &files[..2]), 9);
        assert_eq!(quota_of("second", &[files[0], files[3]]), usize::MAX);
        assert_eq!(
            quota_of("second", &[("groups", "0::/\n"), ("cpu.max", "100 200\n")]),
            0
        );
    }

    #[test]
    fn cpus_of_the_first_version() {
        let files = [
            (
                "groups",
                "4:memory:/m\n3:cpuset:/c\n2:cpu,cpuacct:/a/b\n0::/a\n",
            ),
            ("cpu/a/b/cpu.cfs_quota_us", "-1\n"),
            ("cpu/a/b/cpu.cfs_period_us", "100000\n"),
            ("cpu/cpu.cfs_quota_us", "700000\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("cpu.max", "100000 100000\n"),
            ("a/cpu.max", "100000 100000\n"),
        ];
        assert_eq!(quota_of("first", &files), 7);
        assert_eq!(quota_of("first", &files[..3]), usize::MAX);
    }

    #[test]
    fn cpus_without_groups() {
        assert_eq!(quota(c"/there/is/no/such/file", b"/"), usize::MAX);
        let long = "a".repeat(5000);
        let line = format!("0::/{long}\n");
        assert_eq!(
            quota_of("none", &[("groups", &line), ("cpu.max", "1 1")]),
            usize::MAX
        );
    }
}
