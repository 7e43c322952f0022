//! What there is to narrow a library by: kinds, formats, folders, tags, months, sizes and places, each with how many items it has.
//!
//! One pass over `items` counts all that stands in a row; folders and tags take one pass over their tables each. That is less work
//! than a GROUP BY for each count, above all where a filter looks into texts, and it is one state, within one transaction. 100,000 items
//! take about 0.1 s (`cargo test -p chiasm-engine --test engine a_large_library -- --nocapture` prints it).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chiasm_core::Modality;
use rusqlite::{Connection, params_from_iter};
use serde::Serialize;

use crate::browse::condition;
use crate::store::path_of;
use crate::{Filter, Library, Result, tags};

/// Folders and tags that are told, the most frequent.
const MAX_VALUES: usize = 200;
/// Places that are told, evenly chosen.
const MAX_PLACES: usize = 5_000;
/// Bins of sizes at which finer ones give way to coarser.
const MAX_BINS: usize = 12;

/// A value that items have, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Count {
    /// The value.
    pub value: String,
    /// Items.
    pub n: usize,
}

/// Items of one month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MonthBin {
    /// The month: `2021-07`.
    pub start: String,
    /// Items.
    pub n: usize,
}

/// When items were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Months {
    /// Months with items, the first first.
    pub bins: Vec<MonthBin>,
    /// Items that do not say.
    pub n_undated: usize,
}

/// Items of a range of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SizeBin {
    /// Bytes at least.
    pub min: u64,
    /// Bytes below which they are.
    pub max: u64,
    /// Items.
    pub n: usize,
}

/// How large items are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sizes {
    /// Bytes of the smallest; 0 where there is none.
    pub min: u64,
    /// Bytes of the largest; 0 where there is none.
    pub max: u64,
    /// Ranges between round numbers, one next to the other, about twelve, over all sizes.
    pub bins: Vec<SizeBin>,
}

/// Where an item was taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Place {
    /// The item.
    pub item: i64,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// What there is to narrow the items by.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Facets {
    /// Items of which the filter is true, of the kinds asked for.
    pub n_items: usize,
    /// In the order of [`Modality::ALL`], of *all* kinds of which the filter is true, so that others can be offered beside those asked for.
    pub kinds: Vec<Count>,
    /// The most frequent first.
    pub formats: Vec<Count>,
    /// Folders with the items in them *and below*, as `folder = '...'` finds them: those that hold files, and those above them up to what
    /// was indexed. The 200 most frequent, a folder before those in it.
    pub folders: Vec<Count>,
    /// The 200 most frequent.
    pub tags: Vec<Count>,
    /// By month.
    pub taken: Months,
    /// By bytes.
    pub sizes: Sizes,
    /// At most 5,000, evenly chosen where there are more.
    pub places: Vec<Place>,
}

impl Library {
    /// Counts what there is to narrow the items by of which the filter is true, of these kinds (all when empty).
    ///
    /// # Errors
    /// [`crate::EngineError::Store`].
    pub fn facets(&self, filter: Option<&Filter>, kinds: &[Modality]) -> Result<Facets> {
        let err = self.store.err("cannot count items");
        let mut reader = self.store.reader()?;
        let tx = reader.transaction().map_err(&err)?;
        let read = || -> rusqlite::Result<Facets> {
            let mut facets = Facets::default();
            let chosen = of_items(&tx, filter, kinds, &mut facets)?;
            facets.folders = folders(&tx, chosen.as_ref())?;
            facets.tags = of_tags(&tx, chosen.as_ref())?;
            Ok(facets)
        };
        read().map_err(&err)
    }
}

/// Counts all that stands in a row of `items`; gives the items that were counted, unless it was all.
fn of_items(
    tx: &Connection,
    filter: Option<&Filter>,
    kinds: &[Modality],
    facets: &mut Facets,
) -> rusqlite::Result<Option<HashSet<i64>>> {
    let (condition, values) = condition(tx, filter, &[])?;
    let sql = format!("SELECT i.id, i.kind, i.format, i.size, i.taken, i.latitude, i.longitude FROM items i WHERE {condition}");
    let mut statement = tx.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(&values))?;
    let (mut of_kinds, mut formats, mut months) = (Counter::default(), Counter::default(), Counter::default());
    let (mut sizes, mut places) = (Vec::new(), Vec::new());
    let mut chosen = (filter.is_some() || !kinds.is_empty()).then(HashSet::new);
    while let Some(row) = rows.next()? {
        let kind = row.get_ref(1)?.as_str()?;
        of_kinds.add(kind);
        if !kinds.is_empty() && !kinds.iter().any(|k| k.as_str() == kind) {
            continue;
        }
        let item: i64 = row.get(0)?;
        if let Some(chosen) = &mut chosen {
            chosen.insert(item);
        }
        formats.add(row.get_ref(2)?.as_str()?);
        sizes.push(row.get::<_, i64>(3)?.max(0) as u64);
        match row.get_ref(4)?.as_str_or_null()?.and_then(|taken| taken.get(..7)) {
            Some(month) => months.add(month),
            None => facets.taken.n_undated += 1,
        }
        if let (Some(latitude), Some(longitude)) = (row.get(5)?, row.get(6)?) {
            places.push(Place { item, latitude, longitude });
        }
    }
    facets.n_items = sizes.len();
    let n_of = |kind: &Modality| Some(Count { value: kind.to_string(), n: *of_kinds.0.get(kind.as_str())? });
    facets.kinds = Modality::ALL.iter().filter_map(n_of).collect();
    facets.formats = formats.most_frequent(usize::MAX);
    facets.taken.bins = months.0.into_iter().map(|(start, n)| MonthBin { start, n }).collect();
    facets.sizes = binned(&sizes);
    facets.places = evenly(places, MAX_PLACES);
    Ok(chosen)
}

/// How often each of some words came.
#[derive(Default)]
struct Counter(BTreeMap<String, usize>);

impl Counter {
    fn add(&mut self, word: &str) {
        match self.0.get_mut(word) {
            Some(n) => *n += 1,
            None => _ = self.0.insert(word.to_owned(), 1),
        }
    }

    fn most_frequent(self, n: usize) -> Vec<Count> {
        let mut counts: Vec<Count> = self.0.into_iter().map(|(value, n)| Count { value, n }).collect();
        // A stable sort: words that are equally frequent stay in their own order, in which a folder comes before those in it.
        counts.sort_by_key(|count| std::cmp::Reverse(count.n));
        counts.truncate(n);
        counts
    }
}

/// Items in folders and below.
fn folders(tx: &Connection, chosen: Option<&HashSet<i64>>) -> rusqlite::Result<Vec<Count>> {
    let as_folder = |path: Vec<u8>| path_of(path).to_string_lossy().trim_end_matches('/').to_owned();
    let roots: Vec<String> = tx
        .prepare_cached("SELECT path FROM roots")?
        .query_map([], |row| Ok(as_folder(row.get(0)?)))?
        .collect::<Result<_, _>>()?;
    // Folders by their place in `names`, and which of them each path lies in; paths of one folder follow one another.
    let (mut names, mut place_of): (Vec<String>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
    let mut lies: Vec<(i64, usize)> = Vec::new();
    let mut statement = tx.prepare_cached("SELECT item, folder FROM paths")?;
    let mut rows = statement.query([])?;
    let mut last = usize::MAX;
    while let Some(row) = rows.next()? {
        let item = row.get(0)?;
        if chosen.is_some_and(|chosen| !chosen.contains(&item)) {
            continue;
        }
        let folder = row.get_ref(1)?.as_str()?.trim_end_matches('/');
        if names.get(last).is_none_or(|name| name != folder) {
            last = *place_of.entry(folder.to_owned()).or_insert_with(|| {
                names.push(folder.to_owned());
                names.len() - 1
            });
        }
        lies.push((item, last));
    }
    // An item counts once in a folder, however many copies lie there.
    lies.sort_unstable();
    let above: Vec<Vec<&str>> = names.iter().map(|name| up_to_roots(name, &roots)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut direct = vec![0; names.len()];
    for of_item in lies.chunk_by(|a, b| a.0 == b.0) {
        match of_item {
            [(_, folder)] => direct[*folder] += 1,
            several => {
                let all: BTreeSet<&str> = several.iter().flat_map(|(_, folder)| above[*folder].iter().copied()).collect();
                all.into_iter().for_each(|folder| *counts.entry(folder).or_default() += 1);
            }
        }
    }
    for (folders, n) in above.iter().zip(direct).filter(|(_, n)| *n > 0) {
        folders.iter().for_each(|folder| *counts.entry(folder).or_default() += n);
    }
    Ok(Counter(counts.into_iter().map(|(folder, n)| (folder.to_owned(), n)).collect()).most_frequent(MAX_VALUES))
}

/// A folder and those above it, as far up as what was indexed; nothing for names that lie in no folder.
fn up_to_roots<'a>(folder: &'a str, roots: &[String]) -> Vec<&'a str> {
    let is_within = |folder: &str| {
        let below =
            |root: &String| folder.strip_prefix(root.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        roots.iter().any(below)
    };
    let mut all: Vec<&str> = Vec::new();
    let mut at = folder;
    while !at.is_empty() && (all.is_empty() || is_within(at)) {
        all.push(at);
        at = at.rfind('/').map_or("", |slash| &at[..slash]);
    }
    all
}

/// Items with each tag.
fn of_tags(tx: &Connection, chosen: Option<&HashSet<i64>>) -> rusqlite::Result<Vec<Count>> {
    let mut counts = Counter::default();
    if !tags::exist(tx)? {
        return Ok(Vec::new());
    }
    let mut statement = tx.prepare_cached("SELECT tag, item FROM tags ORDER BY tag, item")?;
    let mut rows = statement.query([])?;
    // Spelt as on the first item that has it.
    let mut spelt = String::new();
    while let Some(row) = rows.next()? {
        if chosen.is_some_and(|chosen| row.get(1).is_ok_and(|item: i64| !chosen.contains(&item))) {
            continue;
        }
        let tag = row.get_ref(0)?.as_str()?;
        if !spelt.eq_ignore_ascii_case(tag) {
            tag.clone_into(&mut spelt);
        }
        counts.add(&spelt);
    }
    Ok(counts.most_frequent(MAX_VALUES))
}

/// Sizes in ranges between round numbers.
fn binned(sizes: &[u64]) -> Sizes {
    let (Some(&min), Some(&max)) = (sizes.iter().min(), sizes.iter().max()) else { return Sizes::default() };
    let edges = edges(min, max);
    let mut bins: Vec<SizeBin> = edges.windows(2).map(|w| SizeBin { min: w[0], max: w[1], n: 0 }).collect();
    for size in sizes {
        // The first edge is no greater than the smallest size, the last one greater than the largest.
        bins[edges.partition_point(|edge| edge <= size) - 1].n += 1;
    }
    Sizes { min, max, bins }
}

/// Round numbers from at most `min` to above `max`: 1, 2, 5, 10 and so on, coarser where they would be too many.
fn edges(min: u64, max: u64) -> Vec<u64> {
    let of_steps = |steps: &[u64]| -> Vec<u64> {
        let powers = std::iter::successors(Some(1_u64), |power| power.checked_mul(10));
        let round = powers.flat_map(|power| steps.iter().filter_map(move |step| power.checked_mul(*step)));
        let all: Vec<u64> = std::iter::once(0).chain(round).chain([u64::MAX]).collect();
        let first = all.partition_point(|edge| *edge <= min) - 1;
        let last = all.partition_point(|edge| *edge <= max).min(all.len() - 1);
        all[first.min(last - 1)..=last].to_vec()
    };
    let kinds: [&[u64]; 3] = [&[1, 2, 5], &[1, 3], &[1]];
    kinds.into_iter().map(of_steps).find(|edges| edges.len() <= MAX_BINS + 1).unwrap_or_else(|| of_steps(&[1]))
}

/// At most `n` of them, evenly spread.
fn evenly<T: Copy>(all: Vec<T>, n: usize) -> Vec<T> {
    if all.len() <= n { all } else { (0..n).map(|i| all[i * all.len() / n]).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_lie_between_round_numbers() {
        assert_eq!(binned(&[]), Sizes::default());
        assert_eq!(binned(&[500]).bins, [SizeBin { min: 500, max: 1000, n: 1 }]);
        let bins = binned(&[0, 1, 3, 4, 20]).bins;
        let told: Vec<(u64, u64, usize)> = bins.iter().map(|b| (b.min, b.max, b.n)).collect();
        assert_eq!(told, [(0, 1, 1), (1, 2, 1), (2, 5, 2), (5, 10, 0), (10, 20, 0), (20, 50, 1)]);
        let few = edges(10, 9_000_000);
        assert!(few.len() <= MAX_BINS + 1 && few[1] == 30, "{few:?}");
        assert_eq!(edges(1, 9_000_000_000).len(), 11, "decades");
    }

    #[test]
    fn folders_reach_up_to_what_was_indexed() {
        let roots = ["/home/me/photos".to_owned(), "/data".to_owned()];
        let up = |folder| up_to_roots(folder, &roots);
        assert_eq!(up("/home/me/photos/a/b"), ["/home/me/photos/a/b", "/home/me/photos/a", "/home/me/photos"]);
        assert_eq!(up("/data"), ["/data"]);
        assert_eq!(up("/database/x"), ["/database/x"], "no root is above it");
        assert!(up("").is_empty());
    }

    proptest! {
        #[test]
        fn every_size_has_its_bin(sizes in proptest::collection::vec(any::<u64>(), 1..40), shift in 0_u32..64) {
            let sizes: Vec<u64> = sizes.into_iter().map(|s| s >> shift).collect();
            let told = binned(&sizes);
            prop_assert_eq!(told.bins.iter().map(|b| b.n).sum::<usize>(), sizes.len());
            prop_assert!(told.bins.len() <= 22 && told.bins.windows(2).all(|w| w[0].max == w[1].min));
        }
    }
}
