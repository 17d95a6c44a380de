//! Every layout to every other and back, by the code that plans and makes.

use crate::convert::Request;
use crate::convert::planning::Planning;
use crate::convert::request::Options;
use crate::convert::source::{Coding, Logical, Quantized, Source, Stored};
use crate::convert::target::{Given, How, Making};
use crate::cpu::Cpu;
use crate::error::{Code, Result};
use crate::kernels::shapes::Random;
use crate::layout::sample::matrix;
use crate::layout::tests::SCHEMES;
use crate::layout::{LAYOUTS, Layout};
use crate::matrix::{QuantizedMatrix, Scales, Values};
use crate::model::load::TensorInfo;
use crate::scheme::Scheme;
use crate::tensor::{Dtype, Tensor};
use proptest::prelude::*;
use serde_json::json;

/// A matrix as it lies in a layout.
#[derive(Debug, Clone)]
struct Written {
    layout: &'static dyn Layout,
    scheme: Scheme,
    shape: (usize, usize),
    dtype: Dtype,
    tensors: Vec<Tensor>,
}

impl Written {
    fn decoded(&self) -> QuantizedMatrix {
        self.layout
            .decode("m", &self.scheme, &self.tensors)
            .unwrap()
    }

    fn values(&self) -> Vec<u32> {
        let matrix = self.decoded();
        let mut row = vec![0.0; matrix.cols];
        let mut all = Vec::new();
        for r in 0..matrix.rows {
            matrix.dequantize_row(r, &mut row).unwrap();
            // Zero has two signs and one value.
            all.extend(row.iter().map(|v| (v + 0.0).to_bits()));
        }
        all
    }

    fn logical(&self) -> Logical {
        let info = |t: &Tensor| TensorInfo {
            name: t.name.clone(),
            dtype: t.dtype,
            shape: t.shape.clone(),
        };
        Logical::new(
            "m.weight",
            self.dtype,
            &[self.shape.0, self.shape.1],
            Stored::Matrix(Quantized {
                coding: Coding::Layout(self.layout, self.scheme),
                parts: self.tensors.iter().map(info).collect(),
            }),
        )
    }

    /// Takes it to another layout: the forecast, what it was, and the result.
    fn to(&self, layout: &'static dyn Layout, options: Options) -> Result<(How, String, Self)> {
        let request = Request::of_options(options);
        let config = json!({ "dtype": "float32" });
        let source = Source::of(&config, vec![self.logical()]);
        let mut planning = Planning::new(&request, &source, layout)?;
        let tensor = &source.tensors[0];
        let mut remake = planning.remake(tensor, tensor.quantized().unwrap())?;
        let (forecast, scheme) = (remake.planned.how, remake.wanted.scheme);
        let planned = layout.outputs("m", &scheme, self.shape, remake.dtype, false);
        let cpu = Cpu::single();
        let mut pieces = remake.take(Given::Matrix(self.decoded()), &cpu)?;
        let (rest, report) = Box::new(remake).finish(&cpu)?;
        pieces.extend(rest);
        assert_eq!(pieces.len(), planned.len());
        let tensors = planned.iter().zip(pieces).map(|(p, piece)| {
            assert_eq!(p.name, piece.tensor);
            assert_eq!(p.bytes().unwrap(), piece.bytes.len() as u64, "{}", p.name);
            Tensor {
                name: piece.tensor,
                dtype: p.dtype,
                shape: p.shape.clone(),
                bytes: piece.bytes,
            }
        });
        let written = Self {
            layout,
            scheme,
            tensors: tensors.collect(),
            ..self.clone()
        };
        Ok((forecast, report.unwrap().how, written))
    }
}

/// The type of the source's scales, to ask for on the way back.
fn scale_dtype(written: &Written) -> Option<String> {
    let flat = |scales: &Scales| match scales {
        Scales::Flat(floats) => Some(floats.dtype()),
        _ => None,
    };
    let dtype = match &written.decoded().values {
        Values::Integer(m) => flat(&m.scales),
        Values::Minifloat(m) => Some(m.scales.dtype()),
        Values::Table(_) | Values::Codebooks(_) => None,
    };
    dtype.map(|d| d.name().to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 10_000, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn exact_means_the_same_values_and_bytes_again(
        from in 0..LAYOUTS.len(), to in 0..LAYOUTS.len(), scheme in 0..SCHEMES.len(),
        asked in prop::option::of(0..SCHEMES.len()), rows in 0usize..70, runs in 0usize..14,
        run in 0usize..5, dtype in 0usize..3, seed in any::<u32>(),
    ) {
        let scheme: Scheme = SCHEMES[scheme].parse().unwrap();
        let cols = runs * [1, 8, 16, 32, 64][run];
        let rows = if run > 2 { rows.div_ceil(32) * 32 } else { rows };
        let fitting = LAYOUTS.iter().filter(|l| l.fits(&scheme, rows, cols).is_ok());
        let fitting: Vec<_> = fitting.copied().collect();
        prop_assume!(!fitting.is_empty());
        let (from, to) = (fitting[from % fitting.len()], LAYOUTS[to]);
        let dtype = [Dtype::F32, Dtype::F16, Dtype::BF16][dtype];
        let source = matrix(&mut Random(u64::from(seed)), &scheme, (rows, cols), dtype);
        let source = Written {
            layout: from, scheme, shape: (rows, cols), dtype,
            tensors: from.encode("m", &source, &scheme, dtype).unwrap(),
        };
        let options = Options { scheme: asked.map(|i| SCHEMES[i].into()), ..Options::default() };
        let (forecast, how, there) = match source.to(to, options) {
            Ok(done) => done,
            Err(e) => {
                prop_assert_eq!(e.code, Code::Scheme, "{}", e);
                prop_assert!(e.what.len() > 15, "{}", e);
                return Ok(());
            }
        };
        if forecast == How::Rounded {
            prop_assert_eq!(&how, "rounded");
        }
        if how != "exact" {
            // Without a scheme nothing but the last bit of a scale may change.
            prop_assert!(asked.is_some() || there.tensors.len() > 1 && forecast == How::Exact);
            return Ok(());
        }
        prop_assert_eq!(there.values(), source.values());
        let back = Options {
            scheme: Some(scheme.to_string()),
            scale_dtype: scale_dtype(&source),
            ..Options::default()
        };
        let one_way = source.decoded();
        let nested = matches!(&one_way.values, Values::Table(t) if matches!(t.scales, Scales::Nested(_)));
        let inputs = scheme.activations != there.scheme.activations;
        if nested || inputs {
            return Ok(());
        }
        let (_, how, again) = there.to(from, back).unwrap();
        prop_assert_eq!(how, "exact");
        prop_assert_eq!(again.values(), source.values());
        // Two row maxima of LLM.int8 may stand for one scale.
        let unique = !matches!(&one_way.values, Values::Integer(m) if !matches!(m.scales, Scales::Flat(_)));
        if unique {
            prop_assert_eq!(again.tensors, source.tensors);
        }
    }
}

/// Pairs that must be exact, so that the property above cannot hold for want of cases.
#[test]
fn neighbours_convert_exactly() {
    let rows = [
        ("compressed-tensors", "w4g32-asym", "awq", "w4g32-asym"),
        ("awq", "w4g32-asym", "gptq-v2", "w4g32-asym"),
        ("gptq", "w4g32", "gptq-v2", "w4g32"),
        ("gptq", "w4g32", "awq", "w4g32-asym"),
        ("gptq-v2", "w3g32-asym", "hqq", "w3g32-float"),
        ("compressed-tensors", "w8", "eetq", "w8"),
        ("eetq", "w8", "bitsandbytes", "w8"),
        ("bitsandbytes", "w8", "compressed-tensors", "w8"),
        ("fp8", "fp8a8t", "compressed-tensors", "fp8a8t"),
        ("compressed-tensors", "fp8a8b16x8", "fp8", "fp8a8b16x8"),
    ];
    for (from, scheme, to, becomes) in rows {
        let (from, to) = (
            crate::layout::find(from).unwrap(),
            crate::layout::find(to).unwrap(),
        );
        let scheme: Scheme = scheme.parse().unwrap();
        // Scales that 127 divides without a remainder survive LLM.int8 both ways.
        let source = matrix(&mut Random(7), &scheme, (64, 64), Dtype::F32);
        let source = Written {
            layout: from,
            scheme,
            shape: (64, 64),
            dtype: Dtype::F32,
            tensors: from.encode("m", &source, &scheme, Dtype::F32).unwrap(),
        };
        let (_, how, there) = source.to(to, Options::default()).unwrap();
        let place = format!("{} → {}", from.name(), to.name());
        assert_eq!(there.scheme.to_string(), becomes, "{place}");
        if to.name() != "bitsandbytes" {
            assert_eq!(
                (how.as_str(), there.values()),
                ("exact", source.values()),
                "{place}"
            );
        }
    }
}
