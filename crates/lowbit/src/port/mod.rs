//! The functions that every binding exports, over handles and JSON.
//!
//! ```text
//! JavaScript ─ JSON, typed arrays ─► binding ─► Port ─► job, loader, engine, sequence
//! ```
//! A `Port` owns everything that a caller opened; there are no globals, so several can live in one
//! process. Whatever runs a model is `async`, because a browser's GPU cannot be waited for; what
//! runs on the CPU works on the calling thread. Errors carry a code; panics become `internal`.

#![cfg_attr(
    target_arch = "wasm32",
    allow(
        clippy::arc_with_non_send_sync,
        reason = "a browser's GPU objects stay on their one thread; natively the same code is shared"
    )
)]

mod caches;
mod catalog;
mod describe;
mod device;
mod encode;
mod files;
mod gguf;
mod guard;
mod imatrix;
mod jobs;
mod measure;
mod models;
mod parse;
mod placement;
mod runs;
mod sessions;
mod shelf;
mod tally;

use crate::error::{Code, Error, Result};
use crate::session::Engine;
use jobs::Job;
use models::Loading;
use sessions::Session;
use shelf::{Shelf, lock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

pub use measure::Scored;

/// What a job or loader wants next: a JSON `Ask` and the bytes that belong to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Polled {
    /// JSON with a `kind`.
    pub ask: String,
    /// Attached bytes: what is to be written.
    pub data: Vec<Vec<u8>>,
}

/// What the host offers; the core cannot look by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Processors that work may be spread over when a request does not say.
    pub threads: usize,
    /// Whether a GPU may be asked for; in a browser, whether `navigator.gpu` exists.
    pub gpu: bool,
}

/// Everything that one caller opened.
#[derive(Debug)]
pub struct Port {
    host: Host,
    gpus: device::Gpus,
    next: AtomicU32,
    jobs: Shelf<Job>,
    loading: Shelf<Loading>,
    engines: Mutex<BTreeMap<u32, Arc<Engine>>>,
    sessions: Shelf<Session>,
}

impl Port {
    /// An empty port.
    pub fn new(host: Host) -> Self {
        Self {
            host,
            gpus: device::Gpus::default(),
            next: AtomicU32::new(1),
            jobs: Shelf::new("job"),
            loading: Shelf::new("model"),
            engines: Mutex::default(),
            sessions: Shelf::new("session"),
        }
    }

    /// Version, host and the tables of methods, formats, architectures and codes, as JSON.
    pub fn catalog(&self) -> Result<String> {
        guard::caught(|| Ok(catalog::json(self.host)))
    }

    /// A safetensors header as JSON; `head` holds the first bytes of the file, at least 8 + its length.
    pub fn header(&self, head: &[u8], file_bytes: u64) -> Result<String> {
        guard::caught(|| files::header(head, file_bytes))
    }

    /// Reads and checks `model.safetensors.index.json`, as JSON.
    pub fn index(&self, text: &[u8]) -> Result<String> {
        guard::caught(|| files::index(text))
    }

    /// Opens GGUF files as a checkpoint as far as `data` goes, the first bytes of each and then the
    /// tensors that were asked for; says what it needs, ends with `done`.
    pub fn gguf_open(&self, request: &str, data: &[Vec<u8>]) -> Result<Polled> {
        guard::caught(|| gguf::open(request, data))
    }

    /// Rows of a GGUF tensor as the checkpoint has them, by the request that `gguf_open` gave.
    pub fn gguf_rows(&self, request: &str, stored: Vec<u8>) -> Result<Vec<u8>> {
        guard::caught(|| gguf::rows(request, stored))
    }

    /// How a checkpoint is quantized, from its config and headers, as JSON.
    pub fn describe(&self, request: &str) -> Result<String> {
        guard::caught(|| describe::describe(request))
    }

    /// Checks everything that can be checked before a tensor is read; the plan as JSON.
    pub fn plan(&self, request: &str) -> Result<String> {
        guard::caught(|| jobs::plan(self.host, &self.gpus, request))
    }

    /// Opens a quantization job; `tokens` are the calibration samples one after another.
    pub fn job_open(&self, request: &str, tokens: Vec<u32>) -> Result<u32> {
        guard::caught(|| {
            let job = Job::open(self.host, &self.gpus, request, tokens)?;
            let handle = self.handle()?;
            self.jobs.put(handle, job);
            Ok(handle)
        })
    }

    /// Answers the job's last ask and computes until its next one.
    pub fn job_poll(&self, job: u32, answer: Vec<Vec<u8>>) -> Result<Polled> {
        guard::caught(|| self.jobs.lend(job)?.poll(answer))
    }

    /// Opens a model for loading; see `model_poll`.
    pub async fn model_open(&self, request: &str) -> Result<u32> {
        guard::caught_async(async {
            let loading = Loading::open(self.host, &self.gpus, request).await?;
            let handle = self.handle()?;
            self.loading.put(handle, loading);
            Ok(handle)
        })
        .await
    }

    /// Answers the loader's last ask and places what came; ends with `done`.
    pub async fn model_poll(&self, model: u32, answer: Vec<Vec<u8>>) -> Result<Polled> {
        guard::caught_async(async {
            let mut loading = self.loading.lend(model)?;
            if let Some(ask) = loading.poll(answer)? {
                return Ok(ask);
            }
            let (engine, done) = loading.keep().finish()?;
            lock(&self.engines).insert(model, Arc::new(engine));
            Ok(done)
        })
        .await
    }

    /// A sequence with its own cache and sampler on a loaded model.
    pub async fn session_open(&self, model: u32, request: &str) -> Result<u32> {
        guard::caught_async(async {
            let session = Session::open(self.engine(model)?, request)?;
            let handle = self.handle()?;
            self.sessions.put(handle, session);
            Ok(handle)
        })
        .await
    }

    /// Appends tokens that `session_next` will prefill.
    pub fn session_push(&self, session: u32, tokens: &[u32]) -> Result<()> {
        guard::caught(|| self.sessions.lend(session)?.push(tokens))
    }

    /// One step: `{"prefill":{"done","total"}}` or `{"token"}`.
    pub async fn session_next(&self, session: u32) -> Result<String> {
        guard::caught_async(async { self.sessions.lend(session)?.next().await }).await
    }

    /// Logits of every token, row-major `[tokens, vocabulary]`.
    pub async fn logits(&self, model: u32, tokens: &[u32]) -> Result<Vec<f32>> {
        guard::caught_async(async {
            let engine = self.engine(model)?;
            measure::logits(&engine, tokens).await
        })
        .await
    }

    /// The importance matrix of one sample of tokens on a loaded model, or files of them added up;
    /// a file.
    pub fn imatrix(&self, request: &str, data: &[Vec<u8>]) -> Result<Vec<u8>> {
        guard::caught(|| {
            let request = imatrix::read(request)?;
            match request.model {
                Some(model) => imatrix::collect(&*self.engine(model)?, &request, data),
                None => imatrix::merge(&request, data),
            }
        })
    }

    /// States, vectors or labels of texts whose `tokens` lie one after another.
    pub async fn encode(&self, model: u32, request: &str, tokens: &[u32]) -> Result<Vec<f32>> {
        guard::caught_async(async { encode::encode(&*self.engine(model)?, request, tokens) }).await
    }

    /// Scores one window; `reference` is 0 or another model.
    pub async fn score(&self, model: u32, reference: u32, tokens: &[u32]) -> Result<Scored> {
        guard::caught_async(async {
            let engine = self.engine(model)?;
            let reference = match reference {
                0 => None,
                handle => Some(self.engine(handle)?),
            };
            measure::score(&engine, reference.as_deref(), tokens).await
        })
        .await
    }

    /// Frees a job, model or session; unknown handles are ignored.
    ///
    /// A model lives on while a session uses it; what is in use is dropped when its call ends.
    pub fn close(&self, handle: u32) {
        self.jobs.close(handle);
        self.loading.close(handle);
        self.sessions.close(handle);
        let engine = lock(&self.engines).remove(&handle);
        drop(engine);
    }

    fn engine(&self, model: u32) -> Result<Arc<Engine>> {
        let found = lock(&self.engines).get(&model).map(Arc::clone);
        found.ok_or_else(|| shelf::unknown("model", model))
    }

    /// A handle that was never given before; 0 means none.
    fn handle(&self) -> Result<u32> {
        let step = |n: u32| n.checked_add(1);
        let next = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        next.map_err(|_| Error::new(Code::Internal, "no handles are left"))
    }
}

#[cfg(test)]
mod tests;
