//! Late fusion against ranx, against its definition, and at its edges.

use std::fs;

use chiasm_core::{Hit, Score};
use chiasm_index::{FuseError, FusedHit, Fusion, Normalisation, fuse};
use proptest::prelude::*;
use serde_json::Value;

const NORMALISATIONS: [(&str, Normalisation); 4] = [
    ("none", Normalisation::None),
    ("min-max", Normalisation::MinMax),
    ("z", Normalisation::ZScore),
    ("rank", Normalisation::Rank),
];

/// Ids and scores, best first.
type Ranking = &'static [(u64, f64)];

fn list(hits: &[(u64, f32)]) -> Vec<Hit> {
    hits.iter().map(|(id, score)| Hit { id: *id, score: Score::new(*score).unwrap() }).collect()
}

fn fused(lists: &[Vec<Hit>], fusion: &Fusion, normalisation: Normalisation) -> Vec<(u64, f64)> {
    let fused = fuse(lists, fusion, normalisation).unwrap();
    assert!(fused.is_sorted_by(|a, b| a.rank_cmp(b).is_lt()));
    fused.iter().map(|item| (item.id, item.score)).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// `reference/index_fusion_goldens.py`. To 1e-12, of the score where that is greater than 1: the goldens have 15 digits.
#[test]
fn agrees_with_ranx() {
    let path = format!("{}/../../testdata/goldens/index/fusion.json", env!("CARGO_MANIFEST_DIR"));
    let questions: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let (mut compared, mut with_equal_scores) = (0, 0);
    for question in questions.as_array().unwrap() {
        let mut lists: Vec<Vec<Hit>> = Vec::new();
        for hits in question["lists"].as_array().unwrap() {
            let hits: Vec<(u64, f32)> =
                hits.as_array().unwrap().iter().map(|h| (h[0].as_u64().unwrap(), h[1].as_f64().unwrap() as f32)).collect();
            lists.push(list(&hits));
        }
        let weights = numbers(&question["weights"]);
        let ids: Vec<u64> = question["ids"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
        // Where all scores of a list are equal, min-max makes them 1 here and 0 in ranx.
        let equal: Vec<bool> = lists.iter().map(|hits| hits.iter().all(|hit| hit.score == hits[0].score)).collect();
        let holds = |l: usize, id: u64| lists[l].iter().any(|hit| hit.id == id);
        let extra = |id: u64, part: &dyn Fn(usize) -> f64| -> f64 {
            (0..lists.len()).filter(|l| equal[*l] && holds(*l, id)).map(part).sum()
        };
        for (name, expected) in question["expected"].as_object().unwrap() {
            let (method, norm) = name.split_once(' ').unwrap_or((name, "none"));
            let fusion = match method {
                "sum" => Fusion::CombSum,
                "mnz" => Fusion::CombMnz,
                "weighted" => Fusion::Weighted(weights.clone()),
                "borda" => Fusion::Borda,
                _ => Fusion::Rrf { k: norm.parse().unwrap() },
            };
            // The two that look at ranks are the same under every normalisation.
            let named = NORMALISATIONS.iter().filter(|(n, _)| *n == norm || ["borda", "rrf"].contains(&method));
            for (_, normalisation) in named {
                let mut got = fused(&lists, &fusion, *normalisation);
                got.sort_by_key(|(id, _)| *id);
                assert_eq!(got.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
                for ((id, got), ranx) in got.iter().zip(numbers(expected)) {
                    let held = (0..lists.len()).filter(|l| holds(*l, *id)).count() as f64;
                    let more = match method {
                        _ if norm != "min-max" => 0.0,
                        "mnz" => held * extra(*id, &|_| 1.0),
                        "weighted" => extra(*id, &|l| weights[l]),
                        _ => extra(*id, &|_| 1.0),
                    };
                    with_equal_scores += usize::from(more != 0.0);
                    let expected = ranx + more;
                    assert!((got - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{name}, id {id}: {got} for {expected}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 7000 && with_equal_scores > 50, "{compared} compared, {with_equal_scores} with equal scores");
}

#[test]
fn every_method_by_hand() {
    let lists = [list(&[(1, 4.0), (2, 2.0), (3, 1.0)]), list(&[(3, -1.0), (4, -3.0)]), list(&[])];
    let by_hand: [(Fusion, Normalisation, Ranking); 8] = [
        (Fusion::CombSum, Normalisation::None, &[(1, 4.0), (2, 2.0), (3, 0.0), (4, -3.0)]),
        (Fusion::CombSum, Normalisation::MinMax, &[(1, 1.0), (3, 1.0), (2, 1.0 / 3.0), (4, 0.0)]),
        (Fusion::CombMnz, Normalisation::MinMax, &[(3, 2.0), (1, 1.0), (2, 1.0 / 3.0), (4, 0.0)]),
        (Fusion::CombSum, Normalisation::Rank, &[(3, 4.0 / 3.0), (1, 1.0), (2, 2.0 / 3.0), (4, 0.5)]),
        (Fusion::Weighted(vec![1.0, 0.25, 9.0]), Normalisation::None, &[(1, 4.0), (2, 2.0), (3, 0.75), (4, -0.75)]),
        // Four items: an item that is missing gets 1 from the first list, 1.5 from the second, 2.5 from the empty one.
        (Fusion::Borda, Normalisation::None, &[(3, 8.5), (1, 8.0), (2, 7.0), (4, 6.5)]),
        (Fusion::Rrf { k: 1.0 }, Normalisation::None, &[(3, 0.75), (1, 0.5), (2, 1.0 / 3.0), (4, 1.0 / 3.0)]),
        (Fusion::Rrf { k: 0.0 }, Normalisation::None, &[(3, 4.0 / 3.0), (1, 1.0), (2, 0.5), (4, 0.5)]),
    ];
    for (fusion, normalisation, expected) in by_hand {
        let got = fused(&lists, &fusion, normalisation);
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!(
                got.0 == expected.0 && (got.1 - expected.1).abs() < 1e-15,
                "{fusion:?} {normalisation:?}: {got:?} for {expected:?}"
            );
        }
    }
    assert_eq!(Fusion::default(), Fusion::Rrf { k: 60.0 });
}

#[test]
fn equal_scores_and_single_hits_have_a_meaning() {
    let lists = [list(&[(9, 0.1), (8, 0.1), (7, 0.1)]), list(&[(5, -2.0)])];
    let parts = |normalisation| fused(&lists, &Fusion::CombSum, normalisation);
    assert_eq!(parts(Normalisation::MinMax), [(5, 1.0), (7, 1.0), (8, 1.0), (9, 1.0)]);
    assert_eq!(parts(Normalisation::ZScore), [(5, 0.0), (7, 0.0), (8, 0.0), (9, 0.0)]);
    // Of equal scores, the smaller id has the better rank.
    assert_eq!(parts(Normalisation::Rank), [(5, 1.0), (7, 1.0), (8, 1.0 - 1.0 / 3.0), (9, 1.0 - 2.0 / 3.0)]);
    // A range that is small, but there: ranx would divide by 1e-9.
    let near = [list(&[(1, 2e-20), (2, 1.5e-20), (3, 1e-20)])];
    let got = fused(&near, &Fusion::CombSum, Normalisation::MinMax);
    assert!(got[0] == (1, 1.0) && (got[1].1 - 0.5).abs() < 1e-6 && got[2] == (3, 0.0), "{got:?}");
}

#[test]
fn no_lists_and_empty_lists_fuse_to_nothing() {
    let none: [Vec<Hit>; 0] = [];
    for (_, normalisation) in NORMALISATIONS {
        for fusion in [Fusion::CombSum, Fusion::CombMnz, Fusion::Borda, Fusion::default(), Fusion::Weighted(vec![])] {
            assert_eq!(fuse(&none, &fusion, normalisation), Ok(vec![]));
            if fusion != Fusion::Weighted(vec![]) {
                assert_eq!(fuse(&[vec![], vec![]], &fusion, normalisation), Ok(vec![]));
            }
        }
    }
}

#[test]
fn refuses_what_makes_no_ranking() {
    let lists = [list(&[(1, 0.5)]), list(&[(2, 3.0), (7, 2.0), (7, 1.0)])];
    for fusion in [Fusion::CombSum, Fusion::Borda, Fusion::default()] {
        assert_eq!(fuse(&lists, &fusion, Normalisation::None), Err(FuseError::Duplicate { list: 1, id: 7 }));
    }
    let one = [list(&[(1, f32::INFINITY), (2, 0.0), (3, f32::NEG_INFINITY)])];
    for normalisation in [Normalisation::None, Normalisation::MinMax, Normalisation::ZScore] {
        let error = fuse(&one, &Fusion::CombMnz, normalisation).unwrap_err();
        assert_eq!(error, FuseError::NotFinite { list: 0, id: 1, score: f32::INFINITY });
        assert_eq!(error.to_string(), "list 0 gives id 1 the score inf: fuse by rank instead, or leave the hit out");
    }
    // Ranks know what to do with infinities.
    assert_eq!(fused(&one, &Fusion::CombSum, Normalisation::Rank)[0], (1, 1.0));
    assert_eq!(fused(&one, &Fusion::Rrf { k: 1.0 }, Normalisation::MinMax)[2], (3, 0.25));

    let weighted = |weights: &[f64]| fuse(&one, &Fusion::Weighted(weights.to_vec()), Normalisation::Rank);
    assert_eq!(weighted(&[1.0, 1.0]), Err(FuseError::Weights { weights: 2, lists: 1 }));
    assert_eq!(weighted(&[f64::INFINITY]), Err(FuseError::Weight { list: 0, weight: f64::INFINITY }));
    let error = weighted(&[-1e101]).unwrap_err().to_string();
    assert_eq!(error, "the weight of list 0 is -1e101: weights must be finite and within 1e100");
    assert!(matches!(weighted(&[f64::NAN]), Err(FuseError::Weight { list: 0, .. })));
    for k in [-1.0, f64::INFINITY] {
        assert_eq!(fuse(&one, &Fusion::Rrf { k }, Normalisation::None), Err(FuseError::Constant { k }));
    }
    assert!(fuse(&one, &Fusion::Rrf { k: f64::NAN }, Normalisation::None).is_err());
    // The greatest numbers there are: sums stay finite.
    let great = [list(&[(1, f32::MAX), (2, f32::MIN)]), list(&[(1, f32::MAX), (2, f32::MIN)])];
    for (_, normalisation) in NORMALISATIONS {
        for fusion in [Fusion::CombMnz, Fusion::Weighted(vec![1e100, 1e100])] {
            assert!(fused(&great, &fusion, normalisation).iter().all(|(_, score)| score.is_finite()));
        }
    }
}

/// Up to four lists of up to ten of sixteen items, with ties.
fn lists() -> impl Strategy<Value = Vec<Vec<Hit>>> {
    let one = proptest::collection::btree_map(0u64..16, -8i8..8, 0..10);
    let hits = one.prop_map(|items| list(&items.into_iter().map(|(id, s)| (id, f32::from(s) / 4.0)).collect::<Vec<_>>()));
    proptest::collection::vec(hits, 1..5)
}

fn close(a: &[FusedHit], b: &[FusedHit]) -> bool {
    let by_id = |items: &[FusedHit]| {
        let mut items = items.to_vec();
        items.sort_by_key(|item| item.id);
        items
    };
    a.len() == b.len() && by_id(a).iter().zip(by_id(b)).all(|(a, b)| a.id == b.id && (a.score - b.score).abs() < 1e-12)
}

proptest! {
    #[test]
    fn what_must_hold_of_any_lists(lists in lists(), turn in 0usize..9) {
        let ones = Fusion::Weighted(vec![1.0; lists.len()]);
        for (_, normalisation) in NORMALISATIONS {
            for fusion in [Fusion::CombSum, Fusion::CombMnz, Fusion::Borda, Fusion::default(), ones.clone()] {
                let fused = fuse(&lists, &fusion, normalisation).unwrap();
                // Every item once, in rank order.
                let mut ids: Vec<u64> = fused.iter().map(|item| item.id).collect();
                ids.sort_unstable();
                let mut all: Vec<u64> = lists.iter().flatten().map(|hit| hit.id).collect();
                all.sort_unstable();
                all.dedup();
                prop_assert_eq!(ids, all);
                prop_assert!(fused.is_sorted_by(|a, b| a.rank_cmp(b).is_lt()));
                // Neither the order within a list nor that of the lists matters.
                let mut turned = lists.clone();
                for list in &mut turned {
                    let by = turn % list.len().max(1);
                    list.rotate_left(by);
                }
                prop_assert_eq!(&fuse(&turned, &fusion, normalisation).unwrap(), &fused);
                turned.rotate_left(turn % lists.len());
                prop_assert!(close(&fuse(&turned, &fusion, normalisation).unwrap(), &fused));
            }
            // One list alone keeps its order, whatever the method, except that equal parts go by id: as they do in the list.
            let alone: Vec<u64> = fuse(&lists[..1], &Fusion::CombSum, normalisation).unwrap().iter().map(|item| item.id).collect();
            let mut own = lists[0].clone();
            own.sort_by(Hit::rank_cmp);
            prop_assert_eq!(alone, own.iter().map(|hit| hit.id).collect::<Vec<_>>());
            let sum = fuse(&lists, &Fusion::CombSum, normalisation).unwrap();
            prop_assert!(close(&fuse(&lists, &ones, normalisation).unwrap(), &sum));
        }
        // Borda hands out the same points for any lists of as many items.
        let borda = fuse(&lists, &Fusion::Borda, Normalisation::None).unwrap();
        let (points, n) = (borda.iter().map(|item| item.score).sum::<f64>(), borda.len() as f64);
        prop_assert_eq!(points, lists.len() as f64 * n * (n + 1.0) / 2.0);
    }
}
