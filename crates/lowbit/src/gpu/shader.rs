//! The table of shaders. Prelude + file + override constants is the only assembly there is.

#[cfg(test)]
use crate::kernels;

/// Text in front of every shader.
pub(crate) const PRELUDE: &str = include_str!("prelude.wgsl");

/// What a shader's binding is, listed in the order of the `@binding` numbers of group 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Binding {
    /// `var<uniform>`.
    Uniform,
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// One WGSL file with what the host knows about it; a test holds the two against each other.
#[derive(Debug)]
pub(crate) struct Shader {
    /// Path of the file below `src/`.
    pub(crate) file: &'static str,
    /// Its text.
    pub(crate) text: &'static str,
    /// Its bindings.
    pub(crate) bindings: &'static [Binding],
    /// Its override constants, in the order in which the host gives their values.
    pub(crate) constants: &'static [&'static str],
}

impl Shader {
    /// The text that is compiled.
    pub(crate) fn source(&self) -> String {
        format!("{PRELUDE}\n{}", self.text)
    }
}

/// Every shader, for the tests below.
#[cfg(test)]
pub(crate) const SHADERS: &[&Shader] = &[
    &kernels::add::gpu::ADD,
    &kernels::attention::gpu::APPEND,
    &kernels::attention::gpu::ATTENTION,
    &kernels::gather::gpu::GATHER,
    &kernels::gram::gpu::GRAM,
    &kernels::matmul::gpu::GEMM,
    &kernels::matmul::many::gpu::GEMM_MANY,
    &kernels::matmul::gpu::GEMV_DENSE,
    &kernels::matmul::gpu::GEMV_INT,
    &kernels::rms_norm::gpu::HEAD_NORM,
    &kernels::rms_norm::gpu::RMS_NORM,
    &kernels::rope::gpu::ROPE,
    &kernels::silu_mul::gpu::SILU_MUL,
    &kernels::top_k::gpu::TOP_K,
];

#[cfg(test)]
mod tests {
    use super::*;
    use naga::{AddressSpace, StorageAccess};
    use std::path::Path;

    /// Every `.wgsl` below a folder, as paths relative to `src/`.
    fn files(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|e| e == "wgsl") {
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
                let relative = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.push(relative.replace('\\', "/"));
            }
        }
    }

    #[test]
    fn every_wgsl_file_is_in_the_table() {
        let mut found = Vec::new();
        files(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        found.retain(|f| f != "gpu/prelude.wgsl");
        found.sort();
        let mut listed: Vec<_> = SHADERS.iter().map(|s| s.file.to_owned()).collect();
        listed.sort();
        assert_eq!(found, listed);
        for shader in SHADERS {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("src")
                .join(shader.file);
            assert_eq!(
                std::fs::read_to_string(path).unwrap(),
                shader.text,
                "{}",
                shader.file
            );
        }
    }

    fn parse(shader: &Shader) -> naga::Module {
        naga::front::wgsl::parse_str(&shader.source())
            .unwrap_or_else(|e| panic!("{}: {}", shader.file, e.emit_to_string(&shader.source())))
    }

    #[test]
    fn every_shader_is_valid_without_optional_features() {
        for shader in SHADERS {
            let module = parse(shader);
            let flags = naga::valid::ValidationFlags::all();
            let mut validator =
                naga::valid::Validator::new(flags, naga::valid::Capabilities::empty());
            if let Err(e) = validator.validate(&module) {
                panic!("{}: {}", shader.file, e.emit_to_string(&shader.source()));
            }
        }
    }

    #[test]
    fn bindings_and_constants_are_the_hosts() {
        for shader in SHADERS {
            let module = parse(shader);
            let mut found = Vec::new();
            for (_, global) in module.global_variables.iter() {
                let Some(binding) = &global.binding else {
                    continue;
                };
                assert_eq!(binding.group, 0, "{}", shader.file);
                let kind = match global.space {
                    AddressSpace::Uniform => Binding::Uniform,
                    AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => {
                        Binding::Write
                    }
                    AddressSpace::Storage { .. } => Binding::Read,
                    other => panic!("{}: {other:?}", shader.file),
                };
                found.push((binding.binding, kind));
            }
            found.sort_by_key(|(i, _)| *i);
            let wanted: Vec<_> = (0u32..).zip(shader.bindings.iter().copied()).collect();
            assert_eq!(found, wanted, "{}", shader.file);
            let mut names: Vec<_> = module
                .overrides
                .iter()
                .filter_map(|(_, o)| o.name.clone())
                .collect();
            let mut listed: Vec<_> = shader.constants.iter().map(|c| (*c).to_owned()).collect();
            names.sort();
            listed.sort();
            assert_eq!(names, listed, "{}", shader.file);
            let storage = shader
                .bindings
                .iter()
                .filter(|b| **b != Binding::Uniform)
                .count();
            assert!(
                storage <= 8,
                "{} binds {storage} storage buffers",
                shader.file
            );
        }
    }
}
