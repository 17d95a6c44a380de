use super::*;
use crate::cpu::{Compute, Cpu};
use crate::kernels::matmul::{Weight, matmul};
use crate::kernels::shapes::Random;
use crate::tensor::bytes_from_f32;

/// Books, vectors of a book, block, blocks down and across.
type Form = (usize, usize, (usize, usize), (usize, usize));

fn tensor(part: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    Tensor {
        name: format!("m.{part}"),
        dtype,
        shape: shape.to_vec(),
        bytes,
    }
}

/// Random tensors of a form, and the dense matrix by the definition, one weight at a time.
fn case(seed: u64, (books, size, block, blocks): Form) -> (Vec<Tensor>, Vec<f32>) {
    let mut random = Random(seed);
    let ((height, width), (down, across)) = (block, blocks);
    let codes: Vec<u16> = (0..down * across * books)
        .map(|_| (random.bits() as usize % size) as u16)
        .collect();
    // Eighths, which F16 and sums of a few hold exactly.
    let mut eighths = |n: usize| -> Vec<f32> {
        (0..n)
            .map(|_| (random.bits() % 64) as f32 / 8.0 - 4.0)
            .collect()
    };
    let (vectors, scales) = (eighths(books * size * height * width), eighths(down));
    let mut dense = Vec::new();
    for r in 0..down * height {
        for c in 0..across * width {
            let code = |k: usize| usize::from(codes[(r / height * across + c / width) * books + k]);
            let at = |k: usize| ((k * size + code(k)) * height + r % height) * width + c % width;
            dense.push(scales[r / height] * (0..books).map(|k| vectors[at(k)]).sum::<f32>());
        }
    }
    let (dtype, stored) = if size > 256 {
        (
            Dtype::I16,
            codes.iter().flat_map(|c| c.to_le_bytes()).collect(),
        )
    } else {
        (Dtype::I8, codes.iter().map(|c| *c as u8).collect())
    };
    let floats = |v: &[f32]| bytes_from_f32(Dtype::F16, v).unwrap();
    let tensors = vec![
        tensor("codes", dtype, &[down, across, books], stored),
        tensor(
            "codebooks",
            Dtype::F16,
            &[books, size, height, width],
            floats(&vectors),
        ),
        tensor("scales", Dtype::F16, &[down, 1, 1, 1], floats(&scales)),
    ];
    (tensors, dense)
}

/// 1×16 and 2×8 as the paper has them, and blocks that are higher than one row.
const FORMS: &[Form] = &[
    (1, 1 << 16, (1, 8), (3, 2)),
    (2, 256, (1, 8), (5, 3)),
    (8, 256, (1, 32), (2, 2)),
    (3, 64, (4, 2), (2, 5)),
];

fn resolver() -> Resolver {
    let config = json!({
        "quant_method": "aqlm", "nbits_per_codebook": 16, "num_codebooks": 1, "out_group_size": 1,
        "in_group_size": 8, "linear_weights_not_to_quantize": ["lm_head.weight", "norm.weight"],
    });
    let found = crate::layout::detect(&json!({ "quantization_config": config }));
    found.unwrap().unwrap()
}

#[test]
fn matrices_are_what_the_definition_says() {
    let rule = resolver();
    let rule = rule.rule("m").unwrap();
    for (i, form) in FORMS.iter().enumerate() {
        let (tensors, dense) = case(i as u64, *form);
        let matrix = rule.layout.decode("m", &rule.scheme, &tensors).unwrap();
        let mut row = vec![0.0; matrix.cols];
        for (r, wanted) in dense.chunks_exact(matrix.cols).enumerate() {
            matrix.dequantize_row(r, &mut row).unwrap();
            assert_eq!(row, wanted, "{form:?}: row {r}");
        }
        assert_eq!(dense.len(), matrix.rows * matrix.cols);
    }
}

#[test]
fn products_are_those_of_the_floats() {
    let (tensors, dense) = case(7, FORMS[1]);
    let matrix = Aqlm
        .decode("m", &resolver().scheme("m").unwrap(), &tensors)
        .unwrap();
    let cpu = Cpu::single();
    let weight = Weight::packed(&matrix, Compute::Int8, cpu.isa).unwrap();
    let mut random = Random(8);
    let x: Vec<f32> = (0..matrix.cols).map(|_| random.signed()).collect();
    let mut y = vec![0.0; matrix.rows];
    matmul(&cpu, &x, &weight, &mut y);
    for (row, y) in dense.chunks_exact(matrix.cols).zip(y) {
        let wanted: f64 = row
            .iter()
            .zip(&x)
            .map(|(w, x)| f64::from(*w) * f64::from(*x))
            .sum();
        assert!((f64::from(y) - wanted).abs() < 1e-4, "{y} for {wanted}");
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let scheme = resolver().scheme("m").unwrap();
    let refused = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let (mut tensors, _) = case(3, FORMS[1]);
        change(&mut tensors);
        Aqlm.decode("m", &scheme, &tensors).unwrap_err().code
    };
    assert_eq!(refused(&|t| t[0].shape = vec![5, 2, 3]), Code::Qparam);
    assert_eq!(refused(&|t| t[1].shape = vec![4, 128, 1, 8]), Code::Qparam);
    assert_eq!(refused(&|t| t[0].shape = vec![30]), Code::Qparam);
    assert_eq!(refused(&|t| t[2].dtype = Dtype::I16), Code::Dtype);
    assert_eq!(refused(&|t| drop(t.remove(1))), Code::MissingTensor);
    // Half of an infinity.
    assert_eq!(
        refused(&|t| t[2].bytes[..2].copy_from_slice(&[0, 0x7c])),
        Code::Qparam
    );
}

#[test]
fn what_stays_as_it_is_is_named_by_its_parameters() {
    let resolver = resolver();
    assert_eq!(resolver.scheme("lm_head"), None);
    assert_eq!(resolver.scheme("m").unwrap().to_string(), "aqlm");
    let error = Aqlm.fits(&"w2g8".parse().unwrap(), 8, 8).unwrap_err();
    assert!(error.to_string().contains("only read"), "{error}");
}
