//! Published figures, to stand beside one's own.
//!
//! Marks: **S** read in a public copy of the source, **R** re-measured from the equations on the same features, **U** remembered from
//! the paper and not found in a public copy: a hint, not a target.

/// A published pair of figures: MAP over the whole ranking, image to text and text to image.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Word of the set.
    pub task: &'static str,
    /// Name of the method.
    pub method: &'static str,
    /// Bits; absent for real-valued methods.
    pub bits: Option<usize>,
    /// The two figures.
    pub map: [f64; 2],
    /// Where they are from.
    pub source: &'static str,
    /// S, R or U.
    pub mark: char,
}

/// The figures of a method on a set, if any were published.
pub fn find(task: &str, method: &str, bits: Option<usize>) -> Vec<Published> {
    let of = |p: &&Published| p.task == task && p.method == method && p.bits == bits;
    ALL.iter().filter(of).copied().collect()
}

const fn real(method: &'static str, map: [f64; 2], source: &'static str, mark: char) -> Published {
    Published { task: "wikipedia", method, bits: None, map, source, mark }
}

const fn code(method: &'static str, bits: usize, map: [f64; 2], mark: char) -> Published {
    Published { task: "wikipedia", method, bits: Some(bits), map, source: "SePH's table", mark }
}

const ALL: &[Published] = &[
    real("cca", [0.249, 0.196], "Rasiwasia 2010, CM", 'U'),
    real("pls", [0.207, 0.192], "Sharma 2012", 'U'),
    real("kcca", [0.280, 0.231], "re-measured, chi-squared", 'R'),
    real("sm", [0.225, 0.223], "Rasiwasia 2010", 'U'),
    real("scm", [0.277, 0.226], "Rasiwasia 2010", 'U'),
    real("gmlda", [0.272, 0.232], "Sharma 2012", 'U'),
    real("gmmfa", [0.264, 0.231], "Sharma 2012", 'U'),
    real("cca-3v", [0.275, 0.224], "JFSSL's table", 'U'),
    real("label-ridge", [0.2704, 0.2142], "re-measured, ridge .1", 'R'),
    real("lcfs", [0.280, 0.214], "JFSSL's table", 'U'),
    real("jfssl", [0.306, 0.228], "Wang 2016", 'U'),
    code("scm-seq", 16, [0.2210, 0.2134], 'R'),
    code("scm-seq", 32, [0.2337, 0.2366], 'R'),
    code("scm-seq", 64, [0.2442, 0.2479], 'R'),
    code("scm-seq", 128, [0.2596, 0.2573], 'R'),
    code("scm-orth", 16, [0.1598, 0.1553], 'U'),
    code("scm-orth", 32, [0.1460, 0.1389], 'U'),
    code("scm-orth", 64, [0.1383, 0.1262], 'U'),
    code("scm-orth", 128, [0.1131, 0.1096], 'U'),
    code("cmfh", 16, [0.2132, 0.4884], 'U'),
    code("cmfh", 32, [0.2259, 0.5132], 'U'),
    code("cmfh", 64, [0.2362, 0.5269], 'U'),
    code("cmfh", 128, [0.2419, 0.5375], 'U'),
    code("seph", 16, [0.2787, 0.6318], 'U'),
    code("seph", 32, [0.2956, 0.6577], 'U'),
    code("seph", 64, [0.3064, 0.6646], 'U'),
    code("seph", 128, [0.3134, 0.6709], 'U'),
    code("cmssh", 16, [0.1877, 0.1630], 'U'),
    code("cmssh", 32, [0.1771, 0.1617], 'U'),
    code("cmssh", 64, [0.1646, 0.1539], 'U'),
    code("cmssh", 128, [0.1552, 0.1517], 'U'),
    code("cvh", 16, [0.1257, 0.1185], 'U'),
    code("cvh", 32, [0.1212, 0.1034], 'U'),
    code("cvh", 64, [0.1215, 0.1024], 'U'),
    code("cvh", 128, [0.1171, 0.0990], 'U'),
    code("imh", 16, [0.1573, 0.1463], 'U'),
    code("imh", 32, [0.1575, 0.1311], 'U'),
    code("imh", 64, [0.1568, 0.1290], 'U'),
    code("imh", 128, [0.1651, 0.1301], 'U'),
];

/// CMFH's MAP of the first 50, image to text and text to image, by bits, as the DJSRH paper's table has it (mark S).
pub const CMFH_AT_50: [(usize, [f64; 2]); 4] =
    [(16, [0.251, 0.595]), (32, [0.253, 0.601]), (64, [0.259, 0.616]), (128, [0.263, 0.622])];
