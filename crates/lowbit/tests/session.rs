//! Sessions through the port, on the trained model in the repository.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where the model in the repository is not as it was"
)]

use lowbit::container::safetensors::{self, Header};
use lowbit::port::{Host, Port};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// The value of a future that never waits, as everything on the CPU.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future waits for something"),
    }
}

struct File {
    bytes: Vec<u8>,
    header: Header,
}

impl File {
    fn open(path: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let bytes = std::fs::read(root.join(path)).unwrap();
        let header = safetensors::parse(&bytes, bytes.len() as u64).unwrap();
        Self { bytes, header }
    }

    fn tensor(&self, name: &str) -> &[u8] {
        let entry = self.header.entries.iter().find(|e| e.name == name).unwrap();
        let start = self.header.data_start;
        &self.bytes[(start + entry.begin) as usize..(start + entry.end) as usize]
    }

    fn tokens(&self, name: &str) -> Vec<u32> {
        let words = self.tensor(name).as_chunks::<8>().0.iter();
        words.map(|w| i64::from_le_bytes(*w) as u32).collect()
    }
}

fn host(threads: usize) -> Host {
    Host { threads, gpu: true }
}

/// Loads novels-4m as a caller would: asks are answered from the file.
fn load(port: &Port, change: &Value) -> u32 {
    let file = File::open("models/novels-4m/model.safetensors");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let config = std::fs::read_to_string(root.join("models/novels-4m/config.json")).unwrap();
    let tensor = |e: &safetensors::Entry| json!({"name": e.name, "dtype": e.dtype.name(), "shape": e.shape, "file": "x"});
    let tensors: Value = file.header.entries.iter().map(tensor).collect();
    let config: Value = serde_json::from_str(&config).unwrap();
    let mut request = json!({"config": config, "tensors": tensors, "device": "cpu"});
    for (key, value) in change.as_object().unwrap() {
        request[key] = value.clone();
    }
    let model = ready(port.model_open(&request.to_string())).unwrap();
    let mut answer = Vec::new();
    loop {
        let polled = ready(port.model_poll(model, answer)).unwrap();
        let ask: Value = serde_json::from_str(&polled.ask).unwrap();
        if ask["kind"] == "done" {
            assert_eq!(ask["info"]["vocabulary"], 4096);
            assert_eq!(ask["info"]["bitsPerWeight"], 16.0);
            return model;
        }
        let names: Vec<String> = serde_json::from_value(ask["tensors"].clone()).unwrap();
        answer = names.iter().map(|n| file.tensor(n).to_vec()).collect();
    }
}

/// Steps until a token comes.
fn token(port: &Port, session: u32) -> u32 {
    loop {
        let step: Value =
            serde_json::from_str(&ready(port.session_next(session)).unwrap()).unwrap();
        if let Some(id) = step["token"].as_u64() {
            return id as u32;
        }
    }
}

fn open(port: &Port, model: u32, request: &Value, prompt: &[u32]) -> u32 {
    let session = ready(port.session_open(model, &request.to_string())).unwrap();
    port.session_push(session, prompt).unwrap();
    session
}

fn reference() -> BTreeMap<String, Vec<u32>> {
    let file = File::open("test/fixtures/novels-4m-reference.safetensors");
    let names = (0..3).flat_map(|i| [format!("prompt_{i}.tokens"), format!("prompt_{i}.greedy")]);
    names.map(|n| (n.clone(), file.tokens(&n))).collect()
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let port = Port::new(host(2));
    let model = load(&port, &json!({"compute": "f32"}));
    let want = reference();
    for i in 0..3 {
        let session = open(
            &port,
            model,
            &json!({}),
            &want[&format!("prompt_{i}.tokens")],
        );
        let got: Vec<u32> = (0..64).map(|_| token(&port, session)).collect();
        assert_eq!(got, want[&format!("prompt_{i}.greedy")], "prompt {i}");
        port.close(session);
    }
}

#[test]
fn interleaved_sessions_are_as_if_alone() {
    let port = Port::new(host(1));
    let model = load(&port, &json!({}));
    let want = reference();
    let request = |seed: u32| json!({"temperature": 0.9, "topP": 0.95, "seed": seed});
    let start = |i: u32| {
        let prompt = &want[&format!("prompt_{i}.tokens")];
        open(&port, model, &request(i), prompt)
    };
    let alone: Vec<Vec<u32>> = (0..2)
        .map(|i| {
            let session = start(i);
            (0..20).map(|_| token(&port, session)).collect()
        })
        .collect();
    let sessions = [start(0), start(1)];
    let mut both = vec![Vec::new(), Vec::new()];
    for _ in 0..20 {
        for (session, tokens) in sessions.iter().zip(&mut both) {
            tokens.push(token(&port, *session));
        }
    }
    assert_eq!(alone, both);
}

#[test]
fn a_long_prompt_comes_in_steps_and_the_context_is_kept() {
    let port = Port::new(host(2));
    let model = load(&port, &json!({"context": 600}));
    let session = open(&port, model, &json!({}), &[5; 590]);
    let e = port.session_push(session, &[5; 11]).unwrap_err();
    assert_eq!(e.code, lowbit::Code::Context);
    let first = ready(port.session_next(session)).unwrap();
    assert_eq!(first, r#"{"prefill":{"done":256,"total":590}}"#);
    let tokens: Vec<u32> = (0..11).map(|_| token(&port, session)).collect();
    assert_eq!(tokens.len(), 11);
    let full = ready(port.session_next(session)).unwrap_err();
    assert_eq!(full.code, lowbit::Code::Context);
}

#[test]
fn a_score_in_pieces_is_that_of_the_whole() {
    let port = Port::new(host(2));
    let model = load(&port, &json!({}));
    let tokens: Vec<u32> = (0..300).map(|i| i * 37 % 4000 + 3).collect();
    let scored = ready(port.score(model, model, &tokens)).unwrap();
    let sums: Value = serde_json::from_str(&scored.sums).unwrap();
    assert_eq!(
        (sums["positions"].as_u64(), sums["sameTop"].as_u64()),
        (Some(299), Some(299))
    );
    assert_eq!(scored.kl, vec![0.0; 299]);
    let logits = ready(port.logits(model, &tokens)).unwrap();
    let whole = lowbit::evaluate::score_window(&logits, None, &tokens, 4096).unwrap();
    let nll = sums["nll"].as_f64().unwrap();
    assert!((nll - whole.nll).abs() < 1e-6, "{nll} {}", whole.nll);
}

#[test]
fn mistakes_have_codes() {
    let port = Port::new(host(1));
    let model = load(&port, &json!({}));
    let open = |request: &str| ready(port.session_open(model, request)).unwrap_err();
    assert_eq!(open(r#"{"topp": 0.5}"#).code, lowbit::Code::Option);
    assert_eq!(open(r#"{"topP": 1.5}"#).code, lowbit::Code::Option);
    assert_eq!(
        ready(port.logits(99, &[1])).unwrap_err().code,
        lowbit::Code::Internal
    );
    assert_eq!(
        ready(port.logits(model, &[4096])).unwrap_err().code,
        lowbit::Code::Option
    );
    port.close(model);
    port.close(model);
    assert!(
        ready(port.logits(model, &[1]))
            .unwrap_err()
            .what
            .contains("not open")
    );
}
