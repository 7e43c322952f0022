//! Resizing of pictures, antialiased, equal to Pillow's.

use chiasm_core::Image;
use fast_image_resize as fir;
use fir::images::{TypedImage, TypedImageRef};
use fir::pixels::{InnerPixel as _, U8x3};

/// How pixels are weighed when a picture changes its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The nearest pixel alone.
    Nearest,
    /// Every pixel covered, alike.
    Box,
    /// A triangle.
    Bilinear,
    /// Cubic with `a = -0.5`.
    Bicubic,
    /// A windowed sinc of three lobes.
    Lanczos,
}

/// Resizes with a triangle filter: [`resize_with`] and [`Filter::Bilinear`].
///
/// # Panics
/// As [`resize_with`].
pub fn resize(image: &Image, width: u32, height: u32) -> Image {
    resize_with(image, width, height, Filter::Bilinear)
}

/// Resizes with a filter whose support grows with the reduction, so that small pictures do not alias.
///
/// Equal to Pillow's `Image.resize((width, height), filter)` within 1/255 per channel (golden over synthetic pictures,
/// enlarging, reducing and both); the same fixed-point arithmetic in two passes. A picture that already has the size is returned as
/// it is.
///
/// # Panics
/// When `width` or `height` is 0, or `image.rgb` has not `height * width * 3` bytes: a caller's mistake, not a file's.
pub fn resize_with(image: &Image, width: u32, height: u32, filter: Filter) -> Image {
    assert!(width > 0 && height > 0, "a picture cannot be resized to {width} x {height}: both must be at least 1");
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    let algorithm = match filter {
        Filter::Nearest => fir::ResizeAlg::Nearest,
        Filter::Box => fir::ResizeAlg::Convolution(fir::FilterType::Box),
        Filter::Bilinear => fir::ResizeAlg::Convolution(fir::FilterType::Bilinear),
        Filter::Bicubic => fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom),
        Filter::Lanczos => fir::ResizeAlg::Convolution(fir::FilterType::Lanczos3),
    };
    // Between the passes pixels are cut to 0..=255. Where a filter overshoots it matters which pass comes first, by up to 10/255 on
    // photos: Pillow's is the horizontal one, the crate's the vertical one. So each pass is asked for by itself.
    if matches!(filter, Filter::Bicubic | Filter::Lanczos) && image.width != width && image.height != height {
        return convolved(&convolved(image, width, image.height, algorithm), width, height, algorithm);
    }
    convolved(image, width, height, algorithm)
}

fn convolved(image: &Image, width: u32, height: u32, algorithm: fir::ResizeAlg) -> Image {
    // The one kind of pixel by name: asked for any kind, the crate is compiled for all of them.
    let source = TypedImageRef::<U8x3>::from_buffer(image.width, image.height, &image.rgb)
        .expect("an `Image` holds height * width * 3 bytes");
    let mut rgb = vec![0; width as usize * height as usize * U8x3::size()];
    let mut target = TypedImage::<U8x3>::from_buffer(width, height, &mut rgb).expect("as many bytes as pixels");
    let options = fir::ResizeOptions::new().resize_alg(algorithm);
    fir::Resizer::new().resize_typed(&source, &mut target, &options).expect("nothing is cropped");
    Image { width, height, rgb }
}

/// The image with its longer side at most `side` pixels, in the same proportions; as it is where it is small enough.
pub fn shrink(image: Image, side: u32) -> Image {
    let scale = f64::from(side) / f64::from(image.width.max(image.height).max(1));
    let to = |n: u32| ((f64::from(n) * scale).round() as u32).clamp(1, side.max(1));
    if scale < 1.0 { resize(&image, to(image.width), to(image.height)) } else { image }
}
