//! Panics of handlers stay with the record that they happened on.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use super::error::HandlerError;

/// How a handler's work ended.
pub(super) enum Ended {
    Done,
    Failed(HandlerError),
    Panicked(String),
}

/// Makes the future and drives it; a panic in either ends it alone.
///
/// What unwinds is dropped and never looked at again, so no broken state of it can be seen; what a
/// handler shares with others is its own care, as with any panic on a thread. In a program that is
/// built with `panic = "abort"` there is nothing to catch.
pub(super) async fn guarded<F>(make: impl FnOnce() -> F) -> Ended
where
    F: Future<Output = Result<(), HandlerError>>,
{
    let future = match catch_unwind(AssertUnwindSafe(make)) {
        Ok(future) => future,
        Err(panic) => return Ended::Panicked(text(&*panic)),
    };
    let mut future = pin!(future);
    let polled =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
            Err(panic) => Poll::Ready(Err(text(&*panic))),
        });
    match polled.await {
        Ok(Ok(())) => Ended::Done,
        Ok(Err(error)) => Ended::Failed(error),
        Err(panic) => Ended::Panicked(panic),
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a text".to_owned())
}
