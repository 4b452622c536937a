// Textured rectangles with premultiplied alpha.

struct Vertex {
    @location(0) place: vec2<f32>,
    @location(1) at: vec2<f32>,
    // x: 1 when the texture's alpha counts, 0 when it is opaque. y: 1 to filter, 0 for exact texels.
    @location(2) mode: vec2<f32>,
};

struct Fragment {
    @builtin(position) place: vec4<f32>,
    @location(0) at: vec2<f32>,
    @location(1) @interpolate(flat) mode: vec2<f32>,
};

@group(0) @binding(0) var image: texture_2d<f32>;
@group(0) @binding(1) var exact: sampler;
@group(0) @binding(2) var smooth_: sampler;

@vertex
fn vertex(in: Vertex) -> Fragment {
    return Fragment(vec4<f32>(in.place, 0.0, 1.0), in.at, in.mode);
}

@fragment
fn fragment(in: Fragment) -> @location(0) vec4<f32> {
    let near = textureSampleLevel(image, exact, in.at, 0.0);
    let soft = textureSampleLevel(image, smooth_, in.at, 0.0);
    let colour = select(near, soft, in.mode.y > 0.5);
    return vec4<f32>(colour.rgb, select(1.0, colour.a, in.mode.x > 0.5));
}
