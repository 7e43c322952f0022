//! A request as it is asked of each lane: which lanes and fields it is for, and its parts as vectors of their spaces.

use chiasm_core::{Media, Metric, Modality, Vectors};

use super::{LANE_MEANING, LANE_NAMES, LANE_WORDS, LaneAsked, QueryMedia, QueryPart, SearchRequest};
use crate::derived::modality_at;
use crate::lane::Lane;
use crate::space::{floats, mean};
use crate::words::{self, Field};
use crate::{EngineError, Library, Result};

/// One part of a query, its vector laid out for ranking.
pub(crate) struct Part {
    pub(crate) modality: Modality,
    pub(crate) weight: f32,
    pub(crate) vector: Vec<f32>,
}

pub(super) fn item_of(what: &QueryMedia) -> Option<i64> {
    match what {
        QueryMedia::Item(id) => Some(*id),
        QueryMedia::Media(_) | QueryMedia::Vector(..) | QueryMedia::Embedded(_) => None,
    }
}

pub(crate) fn text_of(what: &QueryMedia) -> Option<&str> {
    match what {
        QueryMedia::Media(Media::Text(text)) => Some(text),
        QueryMedia::Embedded(embedded) => embedded.text(),
        QueryMedia::Media(_) | QueryMedia::Item(_) | QueryMedia::Vector(..) => None,
    }
}

/// Whether a lane's name is a model's rather than a word for all models, for texts or for names.
pub(crate) fn is_model(name: &str) -> bool {
    ![LANE_MEANING, LANE_WORDS, LANE_NAMES].contains(&name)
}

/// The words of a query all of whose wanted parts are texts.
pub(super) fn words_of(request: &SearchRequest) -> Option<words::Asked> {
    let parts = &request.query.parts;
    let (wanted, unwanted): (Vec<&QueryPart>, Vec<&QueryPart>) = parts.iter().partition(|part| part.weight > 0.0);
    let wanted: Option<Vec<&str>> = wanted.iter().map(|part| text_of(&part.what)).collect();
    let unwanted = unwanted.iter().filter_map(|part| text_of(&part.what));
    words::Asked::new(wanted?.into_iter(), unwanted)
}

pub(super) fn name_of(field: Field) -> &'static str {
    match field {
        Field::Texts => LANE_WORDS,
        Field::Names => LANE_NAMES,
    }
}

/// A lane with a query as it is asked there.
pub(crate) struct Asked<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) parts: Vec<Part>,
}

impl Library {
    /// The models and the fields that a request is for.
    pub(crate) fn chosen(&self, request: &SearchRequest) -> Result<(Vec<&Lane>, Vec<Field>)> {
        const FIELDS: [Field; 2] = [Field::Texts, Field::Names];
        if request.lanes.is_empty() {
            let fields = if request.hybrid { FIELDS.to_vec() } else { Vec::new() };
            return Ok((self.lanes.iter().collect(), fields));
        }
        let is_asked = |name: &str| request.lanes.iter().any(|lane| lane == name);
        let fields: Vec<Field> = FIELDS.into_iter().filter(|field| is_asked(name_of(*field))).collect();
        let models: Vec<String> = request.lanes.iter().filter(|name| is_model(name)).cloned().collect();
        let lanes = match (is_asked(LANE_MEANING), models.as_slice()) {
            (true, _) => self.lanes_named(&models).map(|_| self.lanes.iter().collect())?,
            (false, []) => Vec::new(),
            (false, models) => self.lanes_named(models)?,
        };
        Ok((lanes, fields))
    }

    /// The lanes that can answer, and what became of each. Where words are asked as well, models need not.
    pub(crate) fn asked<'a>(
        &'a self,
        request: &SearchRequest,
        mut lanes: Vec<&'a Lane>,
        words: bool,
    ) -> Result<(Vec<Asked<'a>>, Vec<LaneAsked>)> {
        let by_vector = request.query.parts.iter().any(|part| matches!(part.what, QueryMedia::Vector(..)));
        if let Some(space) = &request.space {
            let own = self.lane_of("vector", space)?;
            lanes.retain(|lane| !by_vector || lane.id == own.id);
            if lanes.is_empty() {
                let reason = format!("the query's vector is of the lane `{}`, which is not among those asked", own.name());
                return Err(EngineError::Query(reason));
            }
        } else if by_vector {
            lanes.truncate(1);
        }
        if lanes.is_empty() && !words {
            return Err(EngineError::Query("words and names can be searched by words alone: ask a model as well".to_owned()));
        }
        let (mut asked, mut told, mut refused) = (Vec::new(), Vec::new(), None);
        for lane in lanes {
            let name = lane.name().to_owned();
            match self.parts(lane, request) {
                Ok(parts) => {
                    asked.push(Asked { lane, parts });
                    told.push(LaneAsked { lane: name, left_out: None });
                }
                // Another lane may know what this one does not. Whatever else goes wrong is told.
                Err(
                    error @ (EngineError::NoView { .. }
                    | EngineError::NoEncoder { .. }
                    | EngineError::NoSuchItem(_)
                    | EngineError::OneAtATime),
                ) => {
                    told.push(LaneAsked { lane: name, left_out: Some(error.to_string()) });
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match refused {
            Some(error) if asked.is_empty() && !words => Err(error),
            _ => Ok((asked, told)),
        }
    }

    fn parts(&self, lane: &Lane, request: &SearchRequest) -> Result<Vec<Part>> {
        let parts = &request.query.parts;
        if parts.len() > 1 && lane.space().metric() == Metric::L2 {
            return Err(EngineError::OneAtATime);
        }
        parts.iter().map(|p| self.part(lane, p)).collect()
    }

    fn part(&self, lane: &Lane, part: &QueryPart) -> Result<Part> {
        let space = lane.space();
        let (modality, vector) = match &part.what {
            QueryMedia::Media(media) => (media.modality(), space.embed_query(media)?),
            QueryMedia::Item(id) => self.item_vector(lane, *id)?,
            QueryMedia::Embedded(embedded) => (embedded.modality, embedded.vector(space)?.to_vec()),
            QueryMedia::Vector(modality, numbers) => {
                space.view_of(*modality)?;
                if numbers.len() != space.dim() {
                    let (got, expected) = (numbers.len(), space.dim());
                    return Err(chiasm_core::SearchError::Dimension { got, expected }.into());
                }
                let checked = Vectors::new(numbers.clone(), numbers.len());
                let mut checked =
                    checked.map_err(|source| EngineError::Numbers { what: "the query's vector".to_owned(), source })?;
                if space.metric() == Metric::Cosine {
                    checked.normalise();
                }
                (*modality, checked.into_data())
            }
        };
        let vector = Vectors::new(vector, space.dim());
        let vector = vector.map_err(|source| EngineError::Numbers { what: "the query's vector".to_owned(), source })?;
        Ok(Part { modality, weight: part.weight, vector: space.as_query(modality, &vector)?.into_data() })
    }

    /// The mean of an item's own vectors in a lane, those of its captions left out.
    pub(super) fn item_vector(&self, lane: &Lane, id: i64) -> Result<(Modality, Vec<f32>)> {
        let reader = self.store.reader()?;
        let read = || -> rusqlite::Result<Vec<(Modality, Vec<f32>)>> {
            let sql = format!(
                "SELECT i.kind, v.vector FROM items i JOIN segments s ON s.item = i.id JOIN {}
                WHERE i.id = ?1 AND s.caption IS NULL ORDER BY s.id",
                lane.vectors()
            );
            let mut statement = reader.prepare_cached(&sql)?;
            statement.query_map([id], |row| Ok((modality_at(row, 0)?, floats(row.get_ref(1)?.as_blob()?))))?.collect()
        };
        let rows = read().map_err(self.store.err("cannot read an item's vectors"))?;
        let Some((modality, _)) = rows.first() else {
            return Err(EngineError::NoSuchItem(id.to_string()));
        };
        Ok((*modality, mean(rows.iter().map(|(_, v)| v.as_slice()), lane.space().dim(), lane.space().metric())))
    }
}

/// Refuses what no lane can answer.
pub(crate) fn check(request: &SearchRequest) -> Result<()> {
    let refuse = |reason: &str| Err(EngineError::Query(reason.to_owned()));
    let parts = &request.query.parts;
    if parts.is_empty() {
        return refuse("the query is empty: give words, a file, an item or a vector");
    }
    if parts.iter().any(|p| !p.weight.is_finite() || p.weight == 0.0) {
        return refuse("the weight of a part must be a number other than 0");
    }
    if parts.iter().all(|p| p.weight < 0.0) {
        return refuse("the query says only what is not wanted: add a part that is");
    }
    Ok(())
}
