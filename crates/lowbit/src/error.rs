//! The one error type: what happened, where, and what to do about it.

use std::fmt;

/// Result of everything that input can make fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Declares the codes once: variant, stable name, meaning.
macro_rules! codes {
    ($($variant:ident $name:literal $about:literal,)*) => {
        /// Stable identifiers of errors; callers branch on these, never on messages.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $(#[doc = $about] $variant,)* }

        impl Code {
            /// Every code, in the order of this table.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The kebab-case name shown as `error[name]`.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// One sentence on what the code means.
            pub const fn about(self) -> &'static str {
                match self { $(Code::$variant => $about,)* }
            }
        }
    };
}

codes! {
    Truncated "truncated" "The file ends before what it announces.",
    NotAModel "not-a-model" "The bytes are not a model: an HTML page, a Git LFS pointer, a pickle.",
    HeaderLimit "header-limit" "The header is larger than the format allows.",
    HeaderJson "header-json" "The header is not the JSON object that the format asks for.",
    DuplicateKey "duplicate-key" "A key appears twice, so two readers could disagree.",
    Overlap "overlap" "Two tensors claim the same bytes.",
    Hole "hole" "Bytes of the data section belong to no tensor.",
    TrailingBytes "trailing-bytes" "Bytes follow the last tensor.",
    Shape "shape" "A shape does not fit its bytes, its neighbour or the model.",
    Dtype "dtype" "The data type is unknown or not usable here.",
    Align "align" "A sub-byte tensor does not end on a byte.",
    Metadata "metadata" "Metadata is not a map from string to string.",
    Name "name" "A tensor name is not usable.",
    Version "version" "The version of the format is not one that can be read.",
    CountLimit "count-limit" "The file announces more keys, tensors or parts than are allowed.",
    StringLimit "string-limit" "A string is longer than allowed.",
    ArrayLimit "array-limit" "An array is longer than allowed.",
    Nesting "nesting" "Values are nested deeper than allowed.",
    Rank "rank" "A tensor has more dimensions than the format allows.",
    Block "block" "Rows are no whole blocks of the type.",
    Alignment "alignment" "The alignment is not a power of two within bounds.",
    DataLimit "data-limit" "The tensors together are larger than a file can be.",
    Imatrix "imatrix" "The importance matrix is not usable, or lacks a tensor that needs one.",
    FileChanged "file-changed" "The file changed while it was being read.",
    PathEscape "path-escape" "A name inside an index points outside the model's folder.",
    Index "index" "The shard index and the shards disagree.",
    Config "config" "config.json lacks a key or holds a value out of range.",
    UnknownArchitecture "unknown-architecture" "No architecture row knows this model type.",
    MissingTensor "missing-tensor" "A tensor that the architecture needs is not in the checkpoint.",
    Qparam "qparam" "Quantization parameters are out of range or do not fit the codes.",
    Scheme "scheme" "The scheme does not parse, or does not fit the matrix or the format.",
    Option "option" "An option is unknown or out of range.",
    Recipe "recipe" "The recipe is not valid.",
    NonfiniteWeight "nonfinite-weight" "A source weight is NaN or infinite.",
    Fallback "fallback" "A layer could not be quantized as asked, and the run is to be strict.",
    NonfiniteActivation "nonfinite-activation" "A calibration activation is NaN or infinite.",
    NonfiniteLogits "nonfinite-logits" "The model produced NaN logits.",
    Dataset "dataset" "A calibration or evaluation text is not usable.",
    Tokenizer "tokenizer" "The tokenizer file is missing or not valid.",
    Template "template" "The chat template failed.",
    Context "context" "Prompt and output do not fit into the model's context.",
    OutputPath "output-path" "The output place is not usable.",
    ResumeMismatch "resume-mismatch" "The unfinished run was started with other input or options.",
    ResumeCorrupt "resume-corrupt" "The unfinished run's files do not match its journal.",
    Locked "locked" "Another process works on the same output.",
    Io "io" "Reading or writing failed.",
    DiskFull "disk-full" "There is not enough space on the output's disk.",
    NotFound "not-found" "The file or folder does not exist.",
    Unauthorized "unauthorized" "A server wants a token, or another one, or the files are gated.",
    OutOfMemory "out-of-memory" "An allocation was refused.",
    Aborted "aborted" "The caller asked to stop.",
    DeviceLost "device-lost" "The GPU went away.",
    NoDevice "no-device" "The requested device does not exist here.",
    Unsupported "unsupported" "The input is valid but nothing here handles it.",
    Internal "internal" "A bug in lowbit; please report it.",
}

/// What happened, where, and the remedy, under a stable code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// The stable identifier.
    pub code: Code,
    /// What was wrong: found and wanted, without a full stop.
    pub what: String,
    /// Where: file, tensor, byte offset or option; empty when `what` says it.
    pub place: String,
    /// What the reader can do; empty when nothing but another input helps.
    pub remedy: String,
}

impl Error {
    /// Starts an error from its code and what was wrong.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            place: String::new(),
            remedy: String::new(),
        }
    }

    /// Says where; an inner place is kept and the outer one put in front.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = if self.place.is_empty() {
            place.to_string()
        } else {
            format!("{place}: {}", self.place)
        };
        self
    }

    /// Says what the reader can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.place.is_empty() {
            write!(f, ", in {}", self.place)?;
        }
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// The candidate nearest to `word` by edit distance, for "did you mean".
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .min_by_key(|c| edit_distance(word, c))
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_what_where_remedy() {
        let e = Error::new(Code::Shape, "129 columns")
            .at("tensor \"a\"")
            .at("m.safetensors");
        assert_eq!(
            e.remedy("use group -1").to_string(),
            "129 columns, in m.safetensors: tensor \"a\"; use group -1"
        );
    }

    #[test]
    fn codes_are_unique_kebab_case() {
        let mut names: Vec<_> = Code::ALL.iter().map(|c| c.name()).collect();
        assert!(
            names
                .iter()
                .all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn nearest_finds_the_typo() {
        assert_eq!(nearest("gtpq", ["rtn", "gptq", "awq"]), Some("gptq"));
    }
}
