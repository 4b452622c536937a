//! Pictures of windows, for tools: drawn like a window, then read back.

use std::time::Duration;

use anyhow::Context;
use inlay_protocol::geometry::Size;

use super::{Device, FORMAT, Quad, extent, upload};

/// How long a picture may take; windows stand still meanwhile.
const PICTURE: Duration = Duration::from_secs(5);

impl Device {
    /// The picture of a window, as [`super::super::Renderer::picture`] says.
    ///
    /// # Errors
    /// When the device fails.
    pub fn picture(&mut self, size: Size, quads: &[Quad]) -> anyhow::Result<Vec<u8>> {
        self.submit();
        let texture = self.device.create_texture(&wgpu::TextureDescriptor {
            label: Some("picture"),
            size: extent(size),
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: FORMAT,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        self.pass(&texture.create_view(&wgpu::TextureViewDescriptor::default()), size, quads);
        let pitch = (4 * size.width).next_multiple_of(upload::PITCH);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("picture"),
            size: u64::from(pitch) * u64::from(size.height),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_texture_to_buffer(
            texture.as_image_copy(),
            wgpu::TexelCopyBufferInfo {
                buffer: &buffer,
                layout: wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(pitch),
                    rows_per_image: None,
                },
            },
            extent(size),
        );
        self.queue.submit([encoder.finish()]);
        let (sender, mapped) = std::sync::mpsc::channel();
        buffer.map_async(wgpu::MapMode::Read, .., move |result| drop(sender.send(result)));
        let wait = wgpu::PollType::Wait { submission_index: None, timeout: Some(PICTURE) };
        self.device.poll(wait).context("the graphics device does not answer in time")?;
        mapped.try_recv().context("the graphics device failed")?.context("the picture cannot be read")?;
        let view = buffer.get_mapped_range(..).context("the picture cannot be read")?;
        let row = 4 * size.width as usize;
        Ok(view.chunks(pitch as usize).flat_map(|line| &line[..row]).copied().collect())
    }
}
