//! Matrix products, in safe clothes.

/// Strided numbers of shape `[rows, cols]`: element `(i, j)` stands at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Strided<'a> {
    /// Rows of `cols` numbers, each `row_stride` after the last.
    pub(crate) fn rows(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        let view = Self { data, rows, cols, row_stride, col_stride: 1 };
        assert!(view.fits(data.len()), "a matrix reaches beyond its numbers");
        view
    }

    /// The same numbers with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn fits(&self, len: usize) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < len
    }
}

/// `c = a b` on this thread, with `c` row-major and its rows `c_stride` apart.
///
/// Row `i` of `c` depends on row `i` of `a` alone, and its bits do not depend on how many rows `a` has from two upwards: the
/// kernels sum each element over `k` in one order fixed by `k`. A single row takes another path inside `gemm`
/// (matrix-vector), which sums differently; [`crate::Linear`] keeps clear of it.
#[allow(unsafe_code)]
pub(crate) fn product(c: &mut [f32], c_stride: usize, a: Strided<'_>, b: Strided<'_>) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "inner dimensions of a matrix product");
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= c_stride && (m - 1) * c_stride + n <= c.len(), "a matrix product does not fit where it goes");
    // SAFETY: `Strided` has checked on construction (and transposing keeps) that every element of `a` and `b` lies in its
    // slice; for `c` the assertions above do, and its elements are distinct because rows are at least `n` apart. `c` is
    // borrowed mutably, so it overlaps neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            c_stride as isize,
            false,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
