//! Resizing of pictures, antialiased, equal to Pillow's.

use chiasm_core::Image;
use fast_image_resize as fir;

/// Resizes with a triangle filter whose support grows with the reduction, so that small pictures do not alias.
///
/// Equal to Pillow's `Image.resize((width, height), Image.BILINEAR)` within 1/255 per channel (golden over synthetic pictures,
/// enlarging, reducing and both); the same fixed-point arithmetic, two passes, horizontal first. A picture that already has
/// the size is returned as it is.
///
/// # Panics
/// When `width` or `height` is 0, or `image.rgb` has not `height * width * 3` bytes: a caller's mistake, not a file's.
pub fn resize(image: &Image, width: u32, height: u32) -> Image {
    assert!(width > 0 && height > 0, "a picture cannot be resized to {width} x {height}: both must be at least 1");
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    let source = fir::images::ImageRef::new(image.width, image.height, &image.rgb, fir::PixelType::U8x3)
        .expect("an `Image` holds height * width * 3 bytes");
    let mut target = fir::images::Image::new(width, height, fir::PixelType::U8x3);
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    fir::Resizer::new().resize(&source, &mut target, &options).expect("source and target have one pixel type and no crop");
    Image { width, height, rgb: target.into_vec() }
}
