//! The edge: no panic leaves the core.

use crate::error::{Code, Error, Result};
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Runs `work`; a panic becomes `internal`.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What a panic may leave half done is dropped by its loan, see `shelf`.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(bug(panic.as_ref())))
}

/// Awaits `work`; a panic in any of its steps becomes `internal`.
pub(super) async fn caught_async<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    std::future::poll_fn(move |context| {
        let step = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        step.unwrap_or_else(|panic| Poll::Ready(Err(bug(panic.as_ref()))))
    })
    .await
}

fn bug(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(Code::Internal, text.unwrap_or("a panic without a message"))
        .remedy("please report it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::tests::ready;

    #[test]
    fn panics_become_internal_errors() {
        let e = caught::<()>(|| panic!("boom {}", 1)).unwrap_err();
        assert_eq!((e.code, e.what.as_str()), (Code::Internal, "boom 1"));
        let e = ready(caught_async::<()>(async { panic!("later") })).unwrap_err();
        assert_eq!((e.code, e.what.as_str()), (Code::Internal, "later"));
        assert_eq!(ready(caught_async(async { Ok(3) })).unwrap(), 3);
    }
}
