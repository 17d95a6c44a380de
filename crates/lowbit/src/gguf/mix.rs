//! Mixes: which tensor gets which type under names such as `Q4_K_M`.
//!
//! Source: the choices of llama.cpp's `llama-quantize`. Each mix is a row of a table; the first rule
//! that applies to a tensor decides, the base type otherwise. Then come the exceptions for models
//! of 8 experts and of 80 layers, and the fallback for rows that no 256 values fill.

use super::mix_choose::When;
use super::mix_kinds::Kind;
use super::types::{
    BF16, F16, F32, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K,
    Q8_0, TQ1_0, TQ2_0, Type,
};
use crate::error::{Code, Error, Result, nearest};

/// A rule of a mix.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) kind: Kind,
    pub(super) when: When,
    pub(super) ty: &'static Type,
}

const fn rule(kind: Kind, when: When, ty: &'static Type) -> Rule {
    Rule { kind, when, ty }
}

/// A named mix.
#[derive(Debug)]
pub struct Mix {
    /// The name in commands and file names.
    pub name: &'static str,
    /// The value of `general.file_type`.
    pub file_type: u32,
    /// What tensors get that no rule names.
    pub base: &'static Type,
    /// What the token embedding gets unless it is the head as well; the base if none.
    pub(super) embedding: Option<&'static Type>,
    /// What the head gets; the base if none.
    pub(super) head: Option<&'static Type>,
    pub(super) rules: &'static [Rule],
    /// Whether tensors of the base type need an importance matrix.
    pub(super) needs_imatrix: bool,
}

const PLAIN: Mix = Mix {
    name: "",
    file_type: 0,
    base: &F32,
    embedding: None,
    head: Some(&Q6_K),
    rules: &[],
    needs_imatrix: false,
};

const fn plain(name: &'static str, file_type: u32, base: &'static Type) -> Mix {
    Mix {
        name,
        file_type,
        base,
        head: None,
        ..PLAIN
    }
}

const fn mix(
    name: &'static str,
    file_type: u32,
    base: &'static Type,
    rules: &'static [Rule],
) -> Mix {
    Mix {
        name,
        file_type,
        base,
        rules,
        ..PLAIN
    }
}

/// Every mix, from many bits to few.
pub static MIXES: &[Mix] = &[
    plain("F32", 0, &F32),
    plain("BF16", 32, &BF16),
    plain("F16", 1, &F16),
    plain("Q8_0", 7, &Q8_0),
    mix("Q6_K", 18, &Q6_K, &[]),
    mix(
        "Q5_K_M",
        17,
        &Q5_K,
        &[
            rule(Kind::Value, When::MoreBits, &Q6_K),
            rule(Kind::Down, When::MoreBits, &Q6_K),
        ],
    ),
    mix("Q5_K_S", 16, &Q5_K, &[]),
    mix("Q5_1", 9, &Q5_1, &[]),
    mix(
        "Q5_0",
        8,
        &Q5_0,
        &[rule(Kind::Down, When::ImatrixFirst(8), &Q5_1)],
    ),
    mix(
        "Q4_K_M",
        15,
        &Q4_K,
        &[
            rule(Kind::Value, When::MoreBits, &Q6_K),
            rule(Kind::Down, When::MoreBits, &Q6_K),
        ],
    ),
    mix(
        "Q4_K_S",
        14,
        &Q4_K,
        &[
            rule(Kind::Value, When::Below(4), &Q5_K),
            rule(Kind::Down, When::First(8), &Q5_K),
        ],
    ),
    mix("Q4_1", 3, &Q4_1, &[]),
    mix(
        "Q4_0",
        2,
        &Q4_0,
        &[rule(Kind::Down, When::ImatrixFirst(8), &Q4_1)],
    ),
    mix("IQ4_NL", 25, &IQ4_NL, IQ4_RULES),
    mix("IQ4_XS", 30, &IQ4_XS, IQ4_RULES),
    Mix {
        head: Some(&Q8_0),
        embedding: Some(&Q8_0),
        ..mix(
            "MXFP4_MOE",
            38,
            &Q8_0,
            &[rule(Kind::Stacked, When::Always, &MXFP4)],
        )
    },
    mix(
        "Q3_K_L",
        13,
        &Q3_K,
        &[
            rule(Kind::Value, When::Always, &Q5_K),
            rule(Kind::Down, When::Always, &Q5_K),
            rule(Kind::Output, When::Always, &Q5_K),
        ],
    ),
    mix(
        "Q3_K_M",
        12,
        &Q3_K,
        &[
            rule(Kind::Value, When::Below(2), &Q5_K),
            rule(Kind::Value, When::Always, &Q4_K),
            rule(Kind::Down, When::First(16), &Q5_K),
            rule(Kind::Down, When::Always, &Q4_K),
            rule(Kind::Output, When::Always, &Q4_K),
        ],
    ),
    mix("Q3_K_S", 11, &Q3_K, &[]),
    mix(
        "Q2_K",
        10,
        &Q2_K,
        &[
            rule(Kind::Value, When::ManyQueries, &Q4_K),
            rule(Kind::Value, When::Always, &Q3_K),
            rule(Kind::Down, When::Always, &Q3_K),
            rule(Kind::Output, When::Always, &Q3_K),
        ],
    ),
    Mix {
        needs_imatrix: true,
        ..mix(
            "Q2_K_S",
            21,
            &Q2_K,
            &[
                rule(Kind::Value, When::ManyQueries, &Q4_K),
                rule(Kind::Down, When::First(8), &Q4_K),
            ],
        )
    },
    Mix {
        embedding: Some(&Q4_K),
        ..mix("TQ2_0", 37, &TQ2_0, &[])
    },
    Mix {
        embedding: Some(&Q4_K),
        ..mix("TQ1_0", 36, &TQ1_0, &[])
    },
];

const IQ4_RULES: &[Rule] = &[
    rule(Kind::Value, When::ManyQueries, &Q5_K),
    rule(Kind::Down, When::NoImatrixFirst(8), &Q5_K),
];

/// Short names of mixes.
const ALIASES: &[(&str, &str)] = &[("Q5_K", "Q5_K_M"), ("Q4_K", "Q4_K_M"), ("Q3_K", "Q3_K_M")];

impl Mix {
    /// Looks a mix up by name in any case; `option` with the nearest name otherwise.
    pub fn by_name(name: &str) -> Result<&'static Self> {
        let upper = name.to_ascii_uppercase();
        let full = ALIASES.iter().find(|(short, _)| *short == upper);
        let full = full.map_or(upper.as_str(), |(_, full)| full);
        MIXES.iter().find(|m| m.name == full).ok_or_else(|| {
            let near = nearest(full, MIXES.iter().map(|m| m.name)).unwrap_or_default();
            let what = format!("no GGUF mix is called {name:?}");
            Error::new(Code::Option, what).remedy(format!("did you mean {near}?"))
        })
    }
}
