//! Things behind handles, lent to one caller at a time.

use crate::error::{Code, Error, Result};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A table of items by handle; an item that is lent out is `None`.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    what: &'static str,
    items: Arc<Mutex<BTreeMap<u32, Option<T>>>>,
}

impl<T> Shelf<T> {
    /// An empty table; `what` names its items in messages.
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            items: Arc::default(),
        }
    }

    /// Keeps an item under a handle that nobody has.
    pub(super) fn put(&self, handle: u32, item: T) {
        lock(&self.items).insert(handle, Some(item));
    }

    /// Forgets an item; one that is lent out is dropped when it comes back.
    pub(super) fn close(&self, handle: u32) {
        let item = lock(&self.items).remove(&handle);
        drop(item);
    }

    /// Lends an item until the loan is dropped, over awaits too.
    pub(super) fn lend(&self, handle: u32) -> Result<Loan<T>> {
        match lock(&self.items).get_mut(&handle).map(Option::take) {
            Some(Some(item)) => Ok(Loan {
                handle,
                item: Some(item),
                items: Arc::clone(&self.items),
            }),
            Some(None) => {
                let what = format!("{} {handle} is still busy with an earlier call", self.what);
                Err(Error::new(Code::Internal, what).remedy("await each call before the next"))
            }
            None => Err(unknown(self.what, handle)),
        }
    }
}

/// The error for a handle that is not, or no longer, known.
pub(super) fn unknown(what: &str, handle: u32) -> Error {
    let what = format!("{what} {handle} is not open");
    Error::new(Code::Internal, what).remedy("it was closed, or an earlier call failed")
}

/// Locks although an earlier holder may have panicked: the tables hold only whole items.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An item that goes back to its shelf when dropped, unless a panic may have left it half done.
#[derive(Debug)]
pub(super) struct Loan<T> {
    handle: u32,
    item: Option<T>,
    items: Arc<Mutex<BTreeMap<u32, Option<T>>>>,
}

impl<T> Loan<T> {
    /// Takes the item off its shelf for good.
    pub(super) fn keep(mut self) -> T {
        lock(&self.items).remove(&self.handle);
        self.item
            .take()
            .expect("a loan holds its item until it ends")
    }
}

impl<T> Deref for Loan<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.item
            .as_ref()
            .expect("a loan holds its item until it ends")
    }
}

impl<T> DerefMut for Loan<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.item
            .as_mut()
            .expect("a loan holds its item until it ends")
    }
}

impl<T> Drop for Loan<T> {
    fn drop(&mut self) {
        let item = self.item.take();
        let mut items = lock(&self.items);
        if std::thread::panicking() {
            items.remove(&self.handle);
        } else if let (Some(place), Some(item)) = (items.get_mut(&self.handle), item) {
            *place = Some(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_lent_once_and_comes_back() {
        let shelf = Shelf::new("job");
        shelf.put(7, 1);
        let mut loan = shelf.lend(7).unwrap();
        *loan += 1;
        assert!(shelf.lend(7).unwrap_err().what.contains("busy"));
        drop(loan);
        assert_eq!(*shelf.lend(7).unwrap(), 2);
    }

    #[test]
    fn closing_a_lent_item_drops_it_later() {
        let shelf = Shelf::new("job");
        shelf.put(7, 1);
        let loan = shelf.lend(7).unwrap();
        shelf.close(7);
        drop(loan);
        assert_eq!(shelf.lend(7).unwrap_err().what, "job 7 is not open");
    }

    #[test]
    fn a_panic_takes_the_item_with_it() {
        let shelf = Shelf::new("job");
        shelf.put(7, 1);
        let result = super::super::guard::caught(|| -> Result<()> {
            let _loan = shelf.lend(7)?;
            panic!("half done")
        });
        assert_eq!(result.unwrap_err().code, Code::Internal);
        assert!(shelf.lend(7).unwrap_err().what.contains("not open"));
    }

    #[test]
    fn a_panic_while_awaiting_takes_the_item_too() {
        let shelf = Shelf::new("session");
        shelf.put(7, 1);
        let lost = super::super::guard::caught_async(async {
            let _loan = shelf.lend(7)?;
            std::future::ready(()).await;
            assert!(shelf.what.is_empty(), "half done");
            Ok(())
        });
        let error = super::super::tests::ready(lost).unwrap_err();
        assert_eq!(error.code, Code::Internal);
        assert!(shelf.lend(7).unwrap_err().what.contains("not open"));
    }
}
