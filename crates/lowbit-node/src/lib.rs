//! lowbit for Node: each function is one call into `lowbit::port`.
//!
//! State lives in an `Arc` that every future holds on its own, so that a terminated worker thread
//! can drop its environment while work is still running.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::needless_pass_by_value,
    reason = "ts/binding.ts documents the functions; napi hands arguments by value"
)]

mod arrays;
mod thread;

use arrays::{free, taken};
use lowbit::port::{Host, Port};
use lowbit::{Code, Error};
use napi::bindgen_prelude::{Float32Array, PromiseRaw, ToNapiValue, TypedArray, Uint8Array};
use napi::{Env, JsError, Result};
use napi_derive::napi;
use std::future::Future;
use std::sync::Arc;
use thread::Thread;

#[napi(object)]
pub struct Polled {
    pub ask: String,
    pub data: Vec<Uint8Array>,
}

impl From<lowbit::port::Polled> for Polled {
    fn from(polled: lowbit::port::Polled) -> Self {
        Self {
            ask: polled.ask,
            data: polled.data.into_iter().map(Uint8Array::new).collect(),
        }
    }
}

#[napi(object)]
pub struct Scored {
    pub sums: String,
    pub kl: Float32Array,
}

/// Runs `work` off the JavaScript thread; its error becomes a JavaScript error with a `code`.
fn promise<T, V>(
    env: &Env,
    work: impl Future<Output = lowbit::Result<T>> + Send + 'static,
    value: impl FnOnce(T) -> V + 'static,
) -> Result<PromiseRaw<'_, V>>
where
    T: Send + 'static,
    V: ToNapiValue,
{
    let settled = async move { Ok(work.await) };
    env.spawn_future_with_callback(settled, move |env, outcome| match outcome {
        Ok(result) => Ok(value(result)),
        Err(e) => {
            let error = napi::Error::new(e.code.name(), e.to_string());
            Err(JsError::from(error).into_unknown(*env).into())
        }
    })
}

#[napi]
pub struct Binding {
    port: Arc<Port>,
    jobs: Thread,
}

#[napi]
impl Binding {
    #[napi(constructor)]
    #[allow(
        clippy::new_without_default,
        reason = "JavaScript has constructors only"
    )]
    pub fn new() -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let failed = |e: std::io::Error| napi::Error::from_reason(e.to_string());
        Ok(Self {
            port: Arc::new(Port::new(Host { threads, gpu: true })),
            jobs: Thread::start("lowbit-jobs").map_err(failed)?,
        })
    }

    #[napi]
    pub fn catalog<'e>(&self, env: &'e Env) -> Result<PromiseRaw<'e, String>> {
        let port = Arc::clone(&self.port);
        promise(env, async move { port.catalog() }, |json| json)
    }

    #[napi]
    pub fn header<'e>(
        &self,
        env: &'e Env,
        head: &[u8],
        file_bytes: f64,
    ) -> Result<PromiseRaw<'e, String>> {
        let (port, head) = (Arc::clone(&self.port), head.to_vec());
        let work = async move { port.header(&head, file_bytes as u64) };
        promise(env, work, |json| json)
    }

    #[napi]
    pub fn index<'e>(&self, env: &'e Env, text: &[u8]) -> Result<PromiseRaw<'e, String>> {
        let (port, text) = (Arc::clone(&self.port), text.to_vec());
        promise(env, async move { port.index(&text) }, |json| json)
    }

    #[napi]
    pub fn gguf_open<'e>(
        &self,
        env: &'e Env,
        request: String,
        data: Vec<Uint8Array>,
    ) -> Result<PromiseRaw<'e, Polled>> {
        let data: Vec<_> = data.iter().map(|d| d.to_vec()).collect();
        let port = Arc::clone(&self.port);
        let work = async move { port.gguf_open(&request, &data) };
        promise(env, work, Polled::from)
    }

    #[napi]
    pub fn gguf_rows<'e>(
        &self,
        env: &'e Env,
        request: String,
        stored: &[u8],
    ) -> Result<PromiseRaw<'e, Uint8Array>> {
        let (port, stored) = (Arc::clone(&self.port), stored.to_vec());
        let work = async move { port.gguf_rows(&request, stored) };
        promise(env, work, Uint8Array::new)
    }

    #[napi]
    pub fn imatrix<'e>(
        &self,
        env: &'e Env,
        request: String,
        data: Vec<Uint8Array>,
    ) -> Result<PromiseRaw<'e, Uint8Array>> {
        let data: Vec<_> = data.iter().map(|d| d.to_vec()).collect();
        let port = Arc::clone(&self.port);
        let work = async move { port.imatrix(&request, &data) };
        promise(env, work, Uint8Array::new)
    }

    #[napi]
    pub fn describe<'e>(&self, env: &'e Env, request: String) -> Result<PromiseRaw<'e, String>> {
        let port = Arc::clone(&self.port);
        promise(env, async move { port.describe(&request) }, |json| json)
    }

    #[napi]
    pub fn plan<'e>(&self, env: &'e Env, request: String) -> Result<PromiseRaw<'e, String>> {
        let port = Arc::clone(&self.port);
        promise(env, async move { port.plan(&request) }, |json| json)
    }

    #[napi]
    pub fn job_open<'e>(
        &self,
        env: &'e Env,
        request: String,
        tokens: &[u32],
    ) -> Result<PromiseRaw<'e, u32>> {
        let (port, tokens) = (Arc::clone(&self.port), tokens.to_vec());
        promise(env, async move { port.job_open(&request, tokens) }, |h| h)
    }

    #[napi]
    pub fn job_poll<'e>(
        &self,
        env: &'e Env,
        job: u32,
        answer: Vec<TypedArray<'_>>,
        spent: Option<Vec<TypedArray<'_>>>,
    ) -> Result<PromiseRaw<'e, Polled>> {
        free(&spent.unwrap_or_default())?;
        let (port, answer) = (Arc::clone(&self.port), taken(&answer)?);
        let polled = self.jobs.run(move || port.job_poll(job, answer));
        let lost = || Error::new(Code::Internal, "the thread of jobs has ended");
        let work = async move { polled.await.unwrap_or_else(|| Err(lost())) };
        promise(env, work, Polled::from)
    }

    #[napi]
    pub fn model_open<'e>(&self, env: &'e Env, request: String) -> Result<PromiseRaw<'e, u32>> {
        let port = Arc::clone(&self.port);
        promise(env, async move { port.model_open(&request).await }, |h| h)
    }

    #[napi]
    pub fn model_poll<'e>(
        &self,
        env: &'e Env,
        model: u32,
        answer: Vec<TypedArray<'_>>,
    ) -> Result<PromiseRaw<'e, Polled>> {
        let (port, answer) = (Arc::clone(&self.port), taken(&answer)?);
        let work = async move { port.model_poll(model, answer).await };
        promise(env, work, Polled::from)
    }

    #[napi]
    pub fn session_open<'e>(
        &self,
        env: &'e Env,
        model: u32,
        request: String,
    ) -> Result<PromiseRaw<'e, u32>> {
        let port = Arc::clone(&self.port);
        let work = async move { port.session_open(model, &request).await };
        promise(env, work, |h| h)
    }

    #[napi]
    pub fn session_push<'e>(
        &self,
        env: &'e Env,
        session: u32,
        tokens: &[u32],
    ) -> Result<PromiseRaw<'e, ()>> {
        let (port, tokens) = (Arc::clone(&self.port), tokens.to_vec());
        promise(
            env,
            async move { port.session_push(session, &tokens) },
            |()| (),
        )
    }

    #[napi]
    pub fn session_next<'e>(&self, env: &'e Env, session: u32) -> Result<PromiseRaw<'e, String>> {
        let port = Arc::clone(&self.port);
        promise(env, async move { port.session_next(session).await }, |s| s)
    }

    #[napi]
    pub fn logits<'e>(
        &self,
        env: &'e Env,
        model: u32,
        tokens: &[u32],
    ) -> Result<PromiseRaw<'e, Float32Array>> {
        let (port, tokens) = (Arc::clone(&self.port), tokens.to_vec());
        let work = async move { port.logits(model, &tokens).await };
        promise(env, work, Float32Array::new)
    }

    #[napi]
    pub fn encode<'e>(
        &self,
        env: &'e Env,
        model: u32,
        request: String,
        tokens: &[u32],
    ) -> Result<PromiseRaw<'e, Float32Array>> {
        let (port, tokens) = (Arc::clone(&self.port), tokens.to_vec());
        let work = async move { port.encode(model, &request, &tokens).await };
        promise(env, work, Float32Array::new)
    }

    #[napi]
    pub fn score<'e>(
        &self,
        env: &'e Env,
        model: u32,
        reference: u32,
        tokens: &[u32],
    ) -> Result<PromiseRaw<'e, Scored>> {
        let (port, tokens) = (Arc::clone(&self.port), tokens.to_vec());
        let work = async move { port.score(model, reference, &tokens).await };
        promise(env, work, |s| Scored {
            sums: s.sums,
            kl: Float32Array::new(s.kl),
        })
    }

    #[napi]
    pub fn close<'e>(&self, env: &'e Env, handle: u32) -> Result<PromiseRaw<'e, ()>> {
        let port = Arc::clone(&self.port);
        let work = async move {
            port.close(handle);
            Ok(())
        };
        promise(env, work, |()| ())
    }
}
