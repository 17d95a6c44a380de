//! One thread that does all the work of one kind.

use std::future::Future;
use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;
use tokio::sync::oneshot;

type Task = Box<dyn FnOnce() + Send>;

/// A thread that takes one task after another and ends with the binding that it belongs to.
///
/// Jobs work here. On the threads that futures take turns on, each would keep for itself what the
/// system's allocator has freed there, and a model's blocks would lie in memory once for each.
#[derive(Debug)]
pub(crate) struct Thread(Sender<Task>);

impl Thread {
    pub(crate) fn start(name: &str) -> std::io::Result<Self> {
        let (sender, tasks) = channel::<Task>();
        let work = move || tasks.into_iter().for_each(|task| task());
        Builder::new().name(name.into()).spawn(work)?;
        Ok(Self(sender))
    }

    /// The result of `task` when its turn has come; none if it panicked.
    pub(crate) fn run<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        task: F,
    ) -> impl Future<Output = Option<T>> + Send + use<T, F> {
        let (done, result) = oneshot::channel();
        // Nobody waits for what a terminated worker thread had asked for.
        let task = move || drop(done.send(task()));
        let sent = self.0.send(Box::new(task));
        async move {
            sent.ok()?;
            result.await.ok()
        }
    }
}
