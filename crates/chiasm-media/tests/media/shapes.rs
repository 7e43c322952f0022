//! Shapes: one shape in every format against trimesh, pictures of it, and files that are not what they should be.
use crate::common::golden;
use chiasm_core::{Media, Mesh, Modality, Span};
use chiasm_media::{Cut, Decoded, Limits, MediaError, N_VIEWS, decode, modality_of, segments, shape_view, shape_views};

fn decoded(name: &str, bytes: &[u8]) -> Result<Decoded, MediaError> {
    decode(std::path::Path::new(name), bytes, &Limits::default())
}

fn mesh(name: &str, bytes: &[u8]) -> Mesh {
    let media = decoded(name, bytes).unwrap_or_else(|e| panic!("{name} {e}")).media;
    let Media::Shape(mesh) = media else { panic!("{name} is {}", media.modality()) };
    mesh
}

fn reference() -> serde_json::Value {
    serde_json::from_slice(&golden("shape.json")).unwrap()
}

fn area(mesh: &Mesh) -> f64 {
    let corner = |i: u32| mesh.vertices[i as usize].map(f64::from);
    let of = |t: &[u32; 3]| {
        let [a, b, c] = t.map(corner);
        let (u, v): ([f64; 3], [f64; 3]) = (std::array::from_fn(|i| b[i] - a[i]), std::array::from_fn(|i| c[i] - a[i]));
        let cross = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
        cross.iter().map(|x| x * x).sum::<f64>().sqrt() / 2.0
    };
    mesh.triangles.iter().map(of).sum()
}

const FILES: [(&str, &str); 7] = [
    ("shape.stl", "STL"),
    ("shape_text.stl", "STL"),
    ("shape.obj", "OBJ"),
    ("shape.ply", "PLY"),
    ("shape_text.ply", "PLY"),
    ("shape_big.ply", "PLY"),
    ("shape.off", "OFF"),
];

#[test]
fn every_format_gives_the_shape_that_trimesh_wrote() {
    let expected = reference();
    for (name, format) in FILES {
        let found = decoded(name, &golden(name)).unwrap();
        assert_eq!((found.metadata.format.as_str(), found.modality()), (format, Modality::Shape));
        assert_eq!(modality_of(std::path::Path::new(name)), Some(Modality::Shape));
        assert_eq!(segments(&found.media, &Cut::default())[0].0, Span::Whole);
        let mesh = mesh(name, &golden(name));
        assert_eq!(mesh.triangles.len() as u64, expected["n_triangles"].as_u64().unwrap(), "{name}");
        assert_eq!(mesh.vertices.len() as u64, expected["n_vertices"].as_u64().unwrap(), "{name}");
        assert!((area(&mesh) / expected["area"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{name}: {}", area(&mesh));
        for axis in 0..3 {
            let of = |fold: fn(f32, f32) -> f32, from: f32| mesh.vertices.iter().map(|v| v[axis]).fold(from, fold);
            let bounds = [of(f32::min, f32::MAX), of(f32::max, f32::MIN)];
            for (end, found) in bounds.into_iter().enumerate() {
                let expected = expected["bounds"][end][axis].as_f64().unwrap();
                assert!((f64::from(found) - expected).abs() < 1e-5, "{name}: axis {axis}: {found}, {expected}");
            }
        }
    }
}

#[test]
fn a_shape_turns_and_neither_its_place_nor_its_size_matters() {
    let shape = mesh("shape.stl", &golden("shape.stl"));
    let views = shape_views(&shape, 64);
    assert_eq!(views.len(), N_VIEWS);
    assert!(views.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(views[3], shape_view(&shape, 3, 64));
    let mut moved = shape.clone();
    moved.vertices.iter_mut().flatten().for_each(|v| *v = *v * 1024.0 + 512.0);
    let apart = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a.abs_diff(**b) > 8).count();
    for (view, expected) in shape_views(&moved, 64).iter().zip(&views) {
        assert!(apart(&view.rgb, &expected.rgb) < 60);
    }
    // Turned by a twelfth, its views are those of the next camera.
    let (sin, cos) = (std::f32::consts::TAU / 12.0).sin_cos();
    let turn = |v: &[f32; 3]| [cos * v[0] - sin * v[1], sin * v[0] + cos * v[1], v[2]];
    let mut turned = shape.clone();
    let middle = |mesh: &Mesh| -> [f32; 3] {
        std::array::from_fn(|axis| {
            let of = mesh.vertices.iter().map(|v| v[axis]);
            (of.clone().fold(f32::MAX, f32::min) + of.fold(f32::MIN, f32::max)) / 2.0
        })
    };
    let at = middle(&shape);
    turned.vertices = shape.vertices.iter().map(|v| turn(&std::array::from_fn(|i| v[i] - at[i]))).collect();
    // The box around it is another then, and with it the middle: what is compared is how much of the picture is covered.
    let covered = |rgb: &[u8]| rgb.chunks_exact(3).filter(|p| p[0] < 245).count() as f64;
    let (a, b) = (covered(&shape_view(&turned, 1, 64).rgb), covered(&views[0].rgb));
    assert!((a / b - 1.0).abs() < 0.1, "{a} and {b}");
}

#[test]
fn faces_of_many_corners_become_triangles() {
    let square = "OFF 4 1 0 # counts behind the word\n0 0 0\n1 0 0 255 0 0\n1 1 0\n\n0 1 0\n4 0 1 2 3 0.5 0.5 0.5\n";
    let found = mesh("a.off", square.as_bytes());
    assert_eq!(found.triangles, [[0, 1, 2], [0, 2, 3]]);
    let ply = "ply\r\nformat ascii 1.0\r\ncomment made by hand\r\nelement vertex 4\r\nproperty float x\r\nproperty float y\r\nproperty float z\r\n\
        property uchar red\r\nelement edge 1\r\nproperty int a\r\nelement face 1\r\nproperty list uchar int vertex_index\r\nend_header\r\n\
        0 0 0 1\r\n1 0 0 2\r\n1 1 0 3\r\n0 1 0 4\r\n7\r\n4 0 1 2 3\r\n";
    assert_eq!(mesh("a.ply", ply.as_bytes()).triangles, [[0, 1, 2], [0, 2, 3]]);
    // y points upwards in OBJ.
    let obj = mesh("a.obj", b"v 0 0 0\nv 1 0 0\nv 1 2 0\nv 0 2 0\nmtllib none.mtl\nusemtl none\nf 1 2 3 4\nf -4 -3 -2\n");
    assert_eq!((obj.triangles.len(), obj.vertices[2]), (3, [1.0, 0.0, 2.0]));
    // A binary STL file that begins like a text.
    let mut stl = golden("shape.stl");
    stl[..6].copy_from_slice(b"solid ");
    assert_eq!(mesh("a.stl", &stl).triangles.len(), 92);
}

#[test]
fn what_is_no_shape_is_told() {
    let fails = |name: &str, bytes: &[u8]| decoded(name, bytes).unwrap_err().to_string();
    assert!(fails("a.stl", b"solid x\nfacet normal 0 0\n").contains("damaged STL"));
    assert!(fails("a.stl", &golden("shape.stl")[..400]).contains("its length is not"));
    assert!(fails("a.obj", b"v 0 0 0\nf 1 2 3\n").contains("damaged OBJ"));
    assert!(fails("a.obj", b"v 0 0 0\nv 1 0 0\n").contains("has no face"));
    assert!(fails("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n").contains("ends before vertex 2"));
    assert!(fails("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n").contains("names vertex 3 of 3"));
    assert!(fails("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 inf\n0 1 0\n3 0 1 2\n").contains("holds inf at vertex 1"));
    assert!(fails("a.off", b"{\"type\": 1}").contains("expected `OFF`"));
    let header = "ply\nformat ascii 1.0\nelement vertex 18446744073709551615\n";
    assert!(
        fails("a.ply", format!("{header}end_header\n").as_bytes()).contains("has no face"),
        "elements of nothing take no time"
    );
    let header = format!("{header}property float x\nproperty float y\nproperty float z\nend_header\n0 0 0 1 1");
    assert!(fails("a.ply", header.as_bytes()).contains("ends before its last element"));
    let list =
        b"ply\nformat binary_little_endian 1.0\nelement face 1\nproperty list uint uchar x\nend_header\n\xff\xff\xff\xff\x01";
    assert!(fails("a.ply", list).contains("ends before its last element"));
    let few = Limits { max_triangles: 50, ..Limits::default() };
    for (name, _) in FILES {
        let error = decode(std::path::Path::new(name), &golden(name), &few).unwrap_err().to_string();
        assert!(error.contains("max_triangles"), "{name}: {error}");
    }
}

/// A file of few bytes may ask for very many pixels: such a shape is drawn more coarsely.
#[test]
fn many_large_triangles_are_drawn_in_time() {
    let vertices = vec![[-1.0, 0.0, -1.0], [1.0, 0.0, -1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]];
    let triangles = (0..200_000).map(|i| if i % 2 == 0 { [0, 1, 2] } else { [2, 1, 0] }).collect();
    let started = std::time::Instant::now();
    let picture = shape_view(&Mesh { vertices, triangles }, 0, 1280);
    assert!(picture.rgb.iter().any(|v| *v < 245));
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    // No area, one point, the largest floats.
    let odd = |vertices: Vec<[f32; 3]>| shape_view(&Mesh { vertices, triangles: vec![[0, 1, 2]] }, 5, 16).rgb.len();
    assert_eq!(odd(vec![[1.0; 3]; 3]), 768);
    assert_eq!(odd(vec![[f32::MAX, 0.0, 0.0], [f32::MIN, 0.0, f32::MAX], [0.0, f32::MAX, 0.0]]), 768);
}
