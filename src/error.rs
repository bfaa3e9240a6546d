//! What can go wrong: the numbers of the C API, as a type.

use std::fmt;

/// Why a call was refused. A refused call changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub(crate) enum Error {
    NoMem,
    Fault,
    Busy,
    Xdev,
    Inval,
    MFile,
    NoSpc,
    Deadlk,
    OpNotSupp,
    Shutdown,
    Already,
    Stale,
    Fork,
    BadF,
    TimedOut,
    Canceled,
}

impl Error {
    /// The number that the C API returns: minus the errno of the same meaning, where
    /// there is one; none is -1, which gt_runtimer uses for "the heap is empty".
    pub(crate) const fn code(self) -> i32 {
        match self {
            Error::NoMem => -12,
            Error::Fault => -14,
            Error::Busy => -16,
            Error::Xdev => -18,
            Error::Inval => -22,
            Error::MFile => -24,
            Error::NoSpc => -28,
            Error::Deadlk => -35,
            Error::OpNotSupp => -95,
            Error::Shutdown => -108,
            Error::Already => -114,
            Error::Stale => -116,
            Error::Fork => -1024,
            Error::BadF => -9,
            Error::TimedOut => -110,
            Error::Canceled => -125,
        }
    }

    /// All of them, for gt_strerror.
    pub(crate) const ALL: [Error; 16] = [
        Error::NoMem,
        Error::Fault,
        Error::Busy,
        Error::Xdev,
        Error::Inval,
        Error::MFile,
        Error::NoSpc,
        Error::Deadlk,
        Error::OpNotSupp,
        Error::Shutdown,
        Error::Already,
        Error::Stale,
        Error::Fork,
        Error::BadF,
        Error::TimedOut,
        Error::Canceled,
    ];

    /// Name and meaning, NUL-terminated for C.
    pub(crate) const fn text(self) -> &'static std::ffi::CStr {
        match self {
            Error::NoMem => c"GT_ENOMEM: out of memory",
            Error::Fault => c"GT_EFAULT: not a handle of this library",
            Error::Busy => c"GT_EBUSY: still in use, or bound elsewhere",
            Error::Xdev => c"GT_EXDEV: belongs to another sched",
            Error::Inval => c"GT_EINVAL: invalid argument",
            Error::MFile => c"GT_EMFILE: out of file descriptors",
            Error::NoSpc => c"GT_ENOSPC: too many Ps or timers",
            Error::Deadlk => c"GT_EDEADLK: waiting could never end",
            Error::OpNotSupp => c"GT_EOPNOTSUPP: not supported with this configuration",
            Error::Shutdown => c"GT_ESHUTDOWN: the timer was shut down, or its sched freed",
            Error::Already => c"GT_EALREADY: armed, or open, already",
            Error::Stale => c"GT_ESTALE: the handle or id is dead",
            Error::Fork => c"GT_EFORK: in a fork child before gt_after_fork",
            Error::BadF => c"GT_EBADF: not an open descriptor",
            Error::TimedOut => c"GT_ETIMEDOUT: the deadline has passed",
            Error::Canceled => c"GT_ECANCELED: closed while waiting",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text().to_string_lossy())
    }
}

impl std::error::Error for Error {}

/// The result of a call that may be refused.
pub(crate) type Result<T> = std::result::Result<T, Error>;
