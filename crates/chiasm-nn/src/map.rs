//! Pictures of numbers, and the windows that slide over them.

/// A picture of numbers, `[height, width, channels]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureMap {
    /// Rows.
    pub height: usize,
    /// Positions per row.
    pub width: usize,
    /// Numbers per position.
    pub channels: usize,
    /// `height * width * channels` numbers.
    pub data: Vec<f32>,
}

impl FeatureMap {
    /// Gives the map a new shape; what numbers it holds then is unspecified.
    pub fn reshape(&mut self, height: usize, width: usize, channels: usize) {
        (self.height, self.width, self.channels) = (height, width, channels);
        self.data.resize(height * width * channels, 0.0);
    }

    /// The mean over all positions, `[channels]`, summed in `f32` from the top left.
    pub fn mean(&self) -> Vec<f32> {
        let mut mean = vec![0.0; self.channels];
        for pixel in self.data.chunks_exact(self.channels) {
            mean.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
        }
        let n = (self.height * self.width) as f32;
        mean.iter_mut().for_each(|v| *v /= n);
        mean
    }
}

/// The zeros that are laid around a picture before a window slides over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As many as TensorFlow's SAME lays there, see [`same_padding`].
    Same,
    /// So many rows and columns, as PyTorch is told them.
    Zeros {
        /// Rows above.
        top: usize,
        /// Rows below.
        bottom: usize,
        /// Columns before.
        left: usize,
        /// Columns after.
        right: usize,
    },
}

impl Padding {
    /// None.
    pub const NONE: Self = Self::even(0);

    /// `n` on every side.
    pub const fn even(n: usize) -> Self {
        Self::Zeros { top: n, bottom: n, left: n, right: n }
    }
}

/// TensorFlow's SAME padding along one side: the output's length, and the zeros before and after.
///
/// `out = ceil(len / stride)`; the total is what the last window lacks, and its smaller half goes first. So a stride of 2 on
/// an even length pads nothing before and one after, where PyTorch's `padding=1` would pad one before.
pub fn same_padding(len: usize, kernel: usize, stride: usize) -> (usize, usize, usize) {
    let out = len.div_ceil(stride);
    let total = ((out - 1) * stride + kernel).saturating_sub(len);
    (out, total / 2, total - total / 2)
}

/// A window that slides over a picture: its size and its steps, each down and across, and what is laid around the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns under the window; neither may be 0.
    pub kernel: [usize; 2],
    /// How far it goes at a time; neither may be 0.
    pub stride: [usize; 2],
    /// The zeros around the picture.
    pub padding: Padding,
}

impl Window {
    /// One as wide as it is high.
    pub const fn square(kernel: usize, stride: usize, padding: Padding) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding }
    }

    /// How often it fits down and across a picture of this height and width; none where it does not fit even once. Descriptions of
    /// models are checked by this before anything slides: the layers take it for granted that their window fits.
    pub fn places(&self, [height, width]: [usize; 2]) -> Option<[usize; 2]> {
        let [down, across] = self.sides([height, width]);
        Some([down.places?, across.places?])
    }

    /// Places and first padding along both sides of a picture.
    fn sides(&self, [height, width]: [usize; 2]) -> [Side; 2] {
        let side = |len: usize, axis: usize, zeros: Option<[usize; 2]>| {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            if len == 0 || kernel == 0 || stride == 0 {
                return Side { places: None, before: 0 };
            }
            match zeros {
                None => {
                    let (places, before, _) = same_padding(len, kernel, stride);
                    Side { places: Some(places), before }
                }
                Some([before, after]) => {
                    let beyond = len.checked_add(before).and_then(|n| n.checked_add(after)).and_then(|n| n.checked_sub(kernel));
                    Side { places: beyond.map(|n| n / stride + 1), before }
                }
            }
        };
        let zeros = match self.padding {
            Padding::Same => [None; 2],
            Padding::Zeros { top, bottom, left, right } => [Some([top, bottom]), Some([left, right])],
        };
        [side(height, 0, zeros[0]), side(width, 1, zeros[1])]
    }

    /// The window on its way over a picture of this height and width.
    pub(crate) fn over(&self, size: [usize; 2]) -> Slide {
        let [down, across] = self.sides(size);
        let (Some(height), Some(width)) = (down.places, across.places) else {
            panic!("a window of {:?} does not fit a picture of {size:?}", self.kernel);
        };
        Slide { window: *self, size, places: [height, width], before: [down.before, across.before] }
    }
}

struct Side {
    places: Option<usize>,
    before: usize,
}

/// A window on its way over a picture of known size.
#[derive(Clone, Copy)]
pub(crate) struct Slide {
    window: Window,
    size: [usize; 2],
    /// How often it fits, down and across.
    pub(crate) places: [usize; 2],
    before: [usize; 2],
}

impl Slide {
    /// Rows and columns of the window.
    pub(crate) fn kernel(&self) -> [usize; 2] {
        self.window.kernel
    }

    /// The part of the window that lies over the picture at one place along an axis (0 down, 1 across), and where in the picture that
    /// part begins. It is empty where the window lies in the padding altogether.
    pub(crate) fn part(&self, axis: usize, place: usize) -> (std::ops::Range<usize>, usize) {
        let (kernel, len, before) = (self.window.kernel[axis], self.size[axis], self.before[axis]);
        let at = place * self.window.stride[axis];
        let first = before.saturating_sub(at).min(kernel);
        let end = kernel.min((len + before).saturating_sub(at)).max(first);
        (first..end, (at + first).saturating_sub(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_over_positions() {
        let x = FeatureMap { height: 1, width: 2, channels: 2, data: vec![1.0, 10.0, 3.0, 30.0] };
        assert_eq!(x.mean(), [2.0, 20.0]);
    }

    #[test]
    fn same_padding_is_tensorflows() {
        assert_eq!(same_padding(224, 3, 2), (112, 0, 1));
        assert_eq!(same_padding(7, 3, 2), (4, 1, 1));
        assert_eq!(same_padding(7, 3, 1), (7, 1, 1));
        assert_eq!(same_padding(1, 3, 2), (1, 1, 1));
        assert_eq!(same_padding(9, 1, 2), (5, 0, 0));
    }

    #[test]
    fn a_window_fits_as_often_as_pytorch_says() {
        assert_eq!(Window::square(7, 2, Padding::even(3)).places([224, 225]), Some([112, 113]));
        assert_eq!(Window::square(3, 2, Padding::even(1)).places([112, 1]), Some([56, 1]));
        let wide = Window { kernel: [1, 4], stride: [1, 2], padding: Padding::NONE };
        assert_eq!(wide.places([5, 9]), Some([5, 3]));
        assert_eq!(wide.places([5, 3]), None);
        assert_eq!(wide.places([0, 9]), None);
        assert_eq!(Window::square(3, 0, Padding::Same).places([5, 5]), None);
        assert_eq!(Window::square(3, 1, Padding::even(usize::MAX)).places([5, 5]), None);
    }
}
