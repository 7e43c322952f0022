//! A library on disk: what it holds, how it is filled, how it answers. This is the boundary that the fronts (command line,
//! server) program against.
//!
//! | to | call |
//! | --- | --- |
//! | learn a space from pairs | [`fit_space`] |
//! | let one kind more join a space | [`bind_space`] |
//! | take the space that a model brings along | [`Space::of_model`] |
//! | keep and open a space | [`Space::save`], [`Space::load`] |
//! | make, open a library | [`Library::create`], [`Library::open`], [`Library::open_or_create`], [`Library::import_vectors`] |
//! | fill it from folders | [`Library::index`] |
//! | put several models into it | [`Library::create_with_lanes`], [`Library::add_lane`] |
//! | ask it | [`Library::search`] (with [`Rerank`]), [`Library::similar`], [`Library::items`], [`Library::find_item`] |
//! | look through it | [`Library::browse`], [`Library::details`], [`Library::facets`], [`Library::refused`] |
//! | learn why an item was found | [`Library::explain`] |
//! | see it as a whole | [`Library::map`] |
//! | put words on items, and have them suggested | [`Library::set_tags`], [`Library::tags_of`], [`Library::suggest_tags`] |
//! | look after it | [`Library::info`], [`Library::verify`], [`Library::remove`] |
//! | name what media show | [`Classifier`] |
//!
//! A library is a folder: `library.db` (SQLite, the truth), `space.space` (a copy of its space), `exact.idx` (derived; may be
//! deleted at any time), the last two once more for each further model, and `library.lock`. `docs/library-format.md` describes
//! them. A [`Library`] is `Send + Sync`: any number of threads may ask while one indexes.
#![forbid(unsafe_code)]

mod bind;
mod browse;
mod calibrate;
mod catalogue;
mod cells;
mod classify;
pub mod container;
mod crowding;
mod derived;
mod embed_table;
mod error;
mod examples;
mod explain;
mod facets;
mod feature_space;
mod fill;
mod filter;
mod fit;
mod import;
mod in_order;
mod info;
mod ingest;
mod lane;
mod library;
mod live;
mod lock;
mod map;
mod model_space;
mod pairs;
mod pipeline;
mod prompts;
mod rerank;
mod search;
mod second_look;
mod serial;
mod space;
mod store;
mod suggest;
mod tags;
mod verify;
mod walk;
mod words;

pub use bind::{BindRequest, bind_space};
pub use browse::{BrowseRequest, Details, Entry, Page, Part, RefusedPage, Sort};
pub use catalogue::{Item, ItemMetadata};
pub use cells::{CELLS_FROM, CELLS_NEED, CellsInfo, DEFAULT_RECALL};
pub use chiasm_encode::ModelDirs;
pub use chiasm_media::{Cut, Limits};
pub use classify::{Classifier, LabelScore, Logits, Squash};
pub use error::{EngineError, FilterError};
pub use examples::LabelledFiles;
pub use explain::{DropUnit, ExplainRequest, Explanation, Heat, LaneScore, PassageDrop, StepDrop, WindowDrop, WordDrop};
pub use facets::{Count, Facets, MonthBin, Months, Place, SizeBin, Sizes};
pub use feature_space::{FeatureFigures, FeatureFit, FeatureReport, FeatureSpace};
pub use filter::Filter;
pub use fit::{ClassNames, FitOutcome, FitReport, FitRequest, FoldFigures, fit_space};
pub use import::ReadyVectors;
pub use info::{KindCount, LaneInfo, LibraryInfo};
pub use ingest::{IndexOptions, IndexReport, Lacking, Refusal, Skipped};
pub use lane::Lane;
pub use library::Library;
pub use map::{MapCluster, SpaceMap};
pub use pairs::{PairTable, TextColumn};
pub use prompts::{Language, Prompts};
pub use rerank::Rerank;
pub use search::{
    Embedded, Found, InLane, LANE_MEANING, LANE_NAMES, LANE_WORDS, LaneAsked, Order, Query, QueryMedia, QueryPart, SearchReply,
    SearchRequest, Strength, load_media,
};
pub use second_look::{LookFigures, SecondLook, SecondLookReport, SecondLookRequest, learn_second_look};
pub use serial::UnitSpan;
pub use space::{Space, SpaceInfo, ViewInfo};
pub use suggest::{SuggestRequest, SuggestedTag, SuggestedTags, TagFigures, TagSuggestions, TagWay};
pub use verify::{Problem, VerifyReport};

/// What every call of this crate that may fail gives.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;
