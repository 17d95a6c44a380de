//! Compiled shaders, made once per set of constants and kept for the device's life.

use super::device::{Gpu, lock};
use super::shader::{Binding, Shader};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A compiled shader and the layout that its bind groups have.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) compute: wgpu::ComputePipeline,
    pub(crate) layout: Arc<wgpu::BindGroupLayout>,
    pub(crate) file: &'static str,
}

/// What has been compiled. Shaders with equal bindings share a layout, so that one bind group
/// serves, for example, the vector and the matrix form of a product.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    compiled: BTreeMap<(&'static str, Vec<u32>), Arc<Pipeline>>,
    layouts: Vec<(&'static [Binding], Arc<wgpu::BindGroupLayout>)>,
}

impl Gpu {
    /// The pipeline of a shader with the values of its constants, in the table's order.
    pub(crate) fn pipeline(&self, shader: &'static Shader, values: &[u32]) -> Arc<Pipeline> {
        assert_eq!(
            values.len(),
            shader.constants.len(),
            "constants of {}",
            shader.file
        );
        let mut pipelines = lock(&self.pipelines);
        let key = (shader.file, values.to_vec());
        if let Some(found) = pipelines.compiled.get(&key) {
            return Arc::clone(found);
        }
        let layout = pipelines.layout(&self.device, shader.bindings);
        let pipeline = Arc::new(compile(&self.device, shader, values, layout));
        pipelines.compiled.insert(key, Arc::clone(&pipeline));
        pipeline
    }
}

impl Pipelines {
    fn layout(
        &mut self,
        device: &wgpu::Device,
        bindings: &'static [Binding],
    ) -> Arc<wgpu::BindGroupLayout> {
        if let Some((_, layout)) = self.layouts.iter().find(|(b, _)| *b == bindings) {
            return Arc::clone(layout);
        }
        let entries: Vec<_> = (0u32..).zip(bindings).map(|(i, b)| entry(i, *b)).collect();
        let layout = Arc::new(
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            }),
        );
        self.layouts.push((bindings, Arc::clone(&layout)));
        layout
    }
}

fn entry(binding: u32, kind: Binding) -> wgpu::BindGroupLayoutEntry {
    let ty = match kind {
        Binding::Uniform => wgpu::BufferBindingType::Uniform,
        Binding::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Binding::Write => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}

fn compile(
    device: &wgpu::Device,
    shader: &'static Shader,
    values: &[u32],
    layout: Arc<wgpu::BindGroupLayout>,
) -> Pipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(shader.file),
        source: wgpu::ShaderSource::Wgsl(shader.source().into()),
    });
    let constants: Vec<_> = shader
        .constants
        .iter()
        .zip(values)
        .map(|(name, value)| (*name, f64::from(*value)))
        .collect();
    let whole = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(shader.file),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let compute = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(shader.file),
        layout: Some(&whole),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants,
            // Every kernel writes its workgroup memory before it reads it.
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    });
    Pipeline {
        compute,
        layout,
        file: shader.file,
    }
}
