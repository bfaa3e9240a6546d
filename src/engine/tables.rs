//! Where the chunks of a slab are found, by their numbers: two tables, of which the second kind is
//! made when it is needed. An entry never changes once it is set.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::sync::{AtomicPtr, Ordering};
use std::ptr::{NonNull, null_mut};

/// 2^10 times 2^12 chunks.
pub(crate) const L1: usize = if cfg!(gt_model) { 2 } else { 1 << 10 };
pub(crate) const L2: usize = if cfg!(gt_model) { 2 } else { 1 << 12 };

type Table<C> = [AtomicPtr<C>; L2];

/// Written under a lock of the owner's, read by anybody.
pub(crate) struct Tables<C>([AtomicPtr<Table<C>>; L1]);

impl<C> Tables<C> {
    pub(crate) fn new() -> Self {
        Tables(std::array::from_fn(|_| AtomicPtr::new(null_mut())))
    }

    /// Room for the chunk of this number. The lock is held.
    pub(crate) fn reserve(&self, no: usize, host: &Host) -> Result<()> {
        let entry = self.0.get(no / L2).ok_or(Error::NoSpc)?;
        if !entry.load(Ordering::Relaxed).is_null() {
            return Ok(());
        }
        let (size, align) = (size_of::<Table<C>>(), align_of::<Table<C>>());
        let p = host.alloc(size, align).ok_or(Error::NoMem)?;
        let first = p.cast::<AtomicPtr<C>>();
        for i in 0..L2 {
            // SAFETY: fresh memory, as large as a table. One by one: the stack may be small.
            unsafe { first.add(i).write(AtomicPtr::new(null_mut())) };
        }
        // Release: who reads the pointer sees that there are none.
        entry.store(p.as_ptr().cast(), Ordering::Release);
        Ok(())
    }

    /// The chunk of this number is this one from now on. The lock is held, and there is room.
    pub(crate) fn set(&self, no: usize, chunk: NonNull<C>) {
        let table = self.0[no / L2].load(Ordering::Relaxed);
        // SAFETY: reserved; tables live as long as we do.
        let table = unsafe { &*table };
        // Release: who reads the pointer sees the chunk.
        table[no % L2].store(chunk.as_ptr(), Ordering::Release);
    }

    #[inline]
    pub(crate) fn get(&self, no: usize) -> Option<&C> {
        let table = self.0.get(no / L2)?.load(Ordering::Acquire);
        // SAFETY: tables and chunks stay until `take` has given the chunks back; null is none.
        unsafe { table.as_ref()?[no % L2].load(Ordering::Acquire).as_ref() }
    }

    /// Gives the tables' memory back, and each chunk to `f`, from the last one to the first.
    ///
    /// # Safety
    /// Nobody uses a chunk any more, nor this.
    pub(crate) unsafe fn take(&mut self, host: &Host, mut f: impl FnMut(NonNull<C>)) {
        let (size, align) = (size_of::<Table<C>>(), align_of::<Table<C>>());
        for entry in self.0.iter().rev() {
            let Some(table) = NonNull::new(entry.load(Ordering::Relaxed)) else {
                continue;
            };
            // SAFETY: tables hold chunks or null; they came from host.alloc. Nobody else has one.
            unsafe {
                for chunk in table.as_ref().iter().rev() {
                    if let Some(p) = NonNull::new(chunk.load(Ordering::Relaxed)) {
                        f(p);
                    }
                }
                table.drop_in_place();
                host.free(table.cast(), size, align);
            }
        }
    }
}

#[cfg(all(test, not(gt_model)))]
mod tests {
    use super::*;
    use crate::host::Hooks;

    #[test]
    fn a_table_serves_many_chunks() {
        let host = Host::new(Hooks::default());
        let mut tables = Tables::<u8>::new();
        tables.reserve(0, &host).unwrap();
        let one = host.bytes();
        assert!(one > 0);
        for no in 1..L2 {
            tables.reserve(no, &host).unwrap();
        }
        assert_eq!(host.bytes(), one);
        tables.reserve(L2, &host).unwrap();
        assert_eq!(host.bytes(), 2 * one);
        assert_eq!(tables.reserve(L1 * L2, &host), Err(Error::NoSpc));

        let mut chunk = 7;
        tables.set(L2, NonNull::from(&mut chunk));
        assert_eq!(tables.get(L2), Some(&7));
        assert_eq!(tables.get(0), None);
        let mut given_back = 0;
        // SAFETY: nobody else has the tables.
        unsafe { tables.take(&host, |c| given_back += *c.as_ref()) };
        assert_eq!((given_back, host.bytes()), (7, 0));
    }
}
