//! lowbit for browsers: each function is one call into `lowbit::port`.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unused_async,
    clippy::needless_pass_by_value,
    reason = "ts/binding.ts documents the functions, all asynchronous; JavaScript hands values"
)]

use js_sys::{Array, Float32Array, Object, Reflect, Uint8Array, Uint32Array};
use lowbit::port::{Host, Port};
use std::rc::Rc;
use wasm_bindgen::prelude::*;

type Result<T> = std::result::Result<T, JsValue>;

/// A JavaScript error with our code.
fn thrown(error: &lowbit::Error) -> JsValue {
    let js = js_sys::Error::new(&error.to_string());
    set(&js, "code", &error.code.name().into());
    js.into()
}

/// Sets a property of an object that was just made, which cannot fail.
fn set(object: &Object, name: &str, value: &JsValue) {
    let done = Reflect::set(object, &name.into(), value);
    debug_assert!(done.is_ok(), "a fresh object takes properties");
}

fn bytes(arrays: &[Uint8Array]) -> Vec<Vec<u8>> {
    arrays.iter().map(Uint8Array::to_vec).collect()
}

fn polled(polled: lowbit::Result<lowbit::port::Polled>) -> Result<JsValue> {
    let polled = polled.map_err(|e| thrown(&e))?;
    let data: Array = polled
        .data
        .iter()
        .map(|d| Uint8Array::from(&d[..]))
        .collect();
    let object = Object::new();
    set(&object, "ask", &polled.ask.into());
    set(&object, "data", &data);
    Ok(object.into())
}

/// Whether this window or worker has `navigator.gpu`; wgpu must not be asked elsewhere.
fn has_webgpu() -> bool {
    let get = |object: &JsValue, name: &str| Reflect::get(object, &name.into()).ok();
    let navigator = get(&js_sys::global(), "navigator").filter(JsValue::is_object);
    let gpu = navigator.and_then(|n| get(&n, "gpu"));
    gpu.is_some_and(|g| g.is_object())
}

/// Reports panics on the console before the instance traps.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

#[wasm_bindgen]
pub struct Binding {
    port: Rc<Port>,
}

#[wasm_bindgen]
impl Binding {
    #[wasm_bindgen(constructor)]
    #[allow(
        clippy::new_without_default,
        reason = "JavaScript has constructors only"
    )]
    pub fn new() -> Self {
        Self {
            port: Rc::new(Port::new(Host {
                threads: 1,
                gpu: has_webgpu(),
            })),
        }
    }

    pub async fn catalog(&self) -> Result<String> {
        self.port.catalog().map_err(|e| thrown(&e))
    }

    pub async fn header(
        &self,
        head: Vec<u8>,
        #[wasm_bindgen(js_name = fileBytes)] file_bytes: f64,
    ) -> Result<String> {
        let header = self.port.header(&head, file_bytes as u64);
        header.map_err(|e| thrown(&e))
    }

    pub async fn index(&self, text: Vec<u8>) -> Result<String> {
        self.port.index(&text).map_err(|e| thrown(&e))
    }

    #[wasm_bindgen(js_name = ggufOpen)]
    pub async fn gguf_open(&self, request: String, data: Vec<Uint8Array>) -> Result<JsValue> {
        polled(self.port.gguf_open(&request, &bytes(&data)))
    }

    #[wasm_bindgen(js_name = ggufRows)]
    pub async fn gguf_rows(&self, request: String, stored: Vec<u8>) -> Result<Uint8Array> {
        let rows = self.port.gguf_rows(&request, stored);
        rows.map(|r| Uint8Array::from(&r[..]))
            .map_err(|e| thrown(&e))
    }

    pub async fn imatrix(&self, request: String, data: Vec<Uint8Array>) -> Result<Uint8Array> {
        let file = self.port.imatrix(&request, &bytes(&data));
        file.map(|f| Uint8Array::from(&f[..]))
            .map_err(|e| thrown(&e))
    }

    pub async fn describe(&self, request: String) -> Result<String> {
        self.port.describe(&request).map_err(|e| thrown(&e))
    }

    pub async fn plan(&self, request: String) -> Result<String> {
        self.port.plan(&request).map_err(|e| thrown(&e))
    }

    #[wasm_bindgen(js_name = jobOpen)]
    pub async fn job_open(&self, request: String, tokens: Vec<u32>) -> Result<u32> {
        let handle = self.port.job_open(&request, tokens);
        handle.map_err(|e| thrown(&e))
    }

    #[wasm_bindgen(js_name = jobPoll)]
    pub async fn job_poll(&self, job: u32, answer: Vec<Uint8Array>) -> Result<JsValue> {
        polled(self.port.job_poll(job, bytes(&answer)))
    }

    #[wasm_bindgen(js_name = modelOpen)]
    pub async fn model_open(&self, request: String) -> Result<u32> {
        let handle = self.port.model_open(&request).await;
        handle.map_err(|e| thrown(&e))
    }

    #[wasm_bindgen(js_name = modelPoll)]
    pub async fn model_poll(&self, model: u32, answer: Vec<Uint8Array>) -> Result<JsValue> {
        polled(self.port.model_poll(model, bytes(&answer)).await)
    }

    #[wasm_bindgen(js_name = sessionOpen)]
    pub async fn session_open(&self, model: u32, request: String) -> Result<u32> {
        let handle = self.port.session_open(model, &request).await;
        handle.map_err(|e| thrown(&e))
    }

    #[wasm_bindgen(js_name = sessionPush)]
    pub async fn session_push(&self, session: u32, tokens: Uint32Array) -> Result<()> {
        let pushed = self.port.session_push(session, &tokens.to_vec());
        pushed.map_err(|e| thrown(&e))
    }

    #[wasm_bindgen(js_name = sessionNext)]
    pub async fn session_next(&self, session: u32) -> Result<String> {
        let step = self.port.session_next(session).await;
        step.map_err(|e| thrown(&e))
    }

    pub async fn logits(&self, model: u32, tokens: Uint32Array) -> Result<Float32Array> {
        let logits = self.port.logits(model, &tokens.to_vec()).await;
        logits
            .map(|l| Float32Array::from(&l[..]))
            .map_err(|e| thrown(&e))
    }

    pub async fn encode(
        &self,
        model: u32,
        request: String,
        tokens: Uint32Array,
    ) -> Result<Float32Array> {
        let values = self.port.encode(model, &request, &tokens.to_vec()).await;
        values
            .map(|v| Float32Array::from(&v[..]))
            .map_err(|e| thrown(&e))
    }

    pub async fn score(&self, model: u32, reference: u32, tokens: Uint32Array) -> Result<JsValue> {
        let scored = self.port.score(model, reference, &tokens.to_vec()).await;
        let scored = scored.map_err(|e| thrown(&e))?;
        let object = Object::new();
        set(&object, "sums", &scored.sums.into());
        set(&object, "kl", &Float32Array::from(&scored.kl[..]));
        Ok(object.into())
    }

    pub async fn close(&self, handle: u32) {
        self.port.close(handle);
    }
}
