//! The space that a model brings along: its towers meet already, so nothing is fitted.

use std::path::Path;
use std::sync::Arc;

use chiasm_align::{About, PipelineSpace, View as PipelineView};
use chiasm_core::{Encoder, Metric, Modality};
use chiasm_encode::{ModelDirs, Temperature};

use crate::space::{References, View};
use crate::{Result, Space};

/// What stands as the method of such a space.
const METHOD: &str = "model";

impl Space {
    /// The space of a model: of a dual encoder (CLIP and its kin) that in which its towers meet, of a single encoder its own. `name` is
    /// one that `chiasm model list` prints, or the path of a model, which the space keeps as an absolute one.
    ///
    /// # Errors
    /// [`crate::EngineError::Model`] when the model is not there or not whole, [`crate::EngineError::Pipeline`] when its towers
    /// give vectors of different lengths.
    pub fn of_model(name: &str, models: &ModelDirs) -> Result<Space> {
        let towers = chiasm_encode::towers(name, models)?;
        // A library outlives the folder that one stood in when it was made.
        let folder = chiasm_encode::bare(name);
        let name = match std::fs::canonicalize(folder) {
            Ok(path) => path.to_string_lossy().into_owned() + &name[folder.len()..],
            Err(_) => name.to_owned(),
        };
        let open = |modality: &Modality| -> Result<Arc<dyn Encoder>> {
            let tower = if towers.len() == 1 { name.clone() } else { chiasm_encode::tower_name(&name, *modality) };
            Ok(Arc::from(chiasm_encode::open(&tower, models)?))
        };
        let encoders: Vec<Arc<dyn Encoder>> = towers.iter().map(open).collect::<Result<_>>()?;
        let ends = encoders.iter().map(|encoder| PipelineView { input_dim: encoder.dim(), steps: Vec::new() }).collect();
        let projection = PipelineSpace::new(Metric::Cosine, ends, About { method: METHOD.to_owned(), ..About::default() })?;
        let views: Vec<View> = encoders.iter().map(View::of).collect();
        let references = References { views: vec![Vec::new(); views.len()], paired: false };
        let short = Path::new(&name).file_name().map_or_else(|| name.clone(), |file| file.to_string_lossy().into_owned());
        let space = Space::assemble(short, views, projection, references, None, models.clone())?;
        encoders.into_iter().enumerate().for_each(|(view, encoder)| space.adopt(view, encoder));
        Ok(space)
    }

    /// Whether a model brought it along.
    pub(crate) fn is_of_model(&self) -> bool {
        self.method() == METHOD
    }

    /// How closeness of media of a kind to texts becomes a probability, where a model brought the space along and says so. Two
    /// texts are not what it was learnt on.
    pub(crate) fn temperature(&self, media: Modality) -> Result<Option<Temperature>> {
        if !self.is_of_model() || media == Modality::Text {
            return Ok(None);
        }
        Ok(chiasm_encode::temperature(self.encoder_name(media)?, self.models())?)
    }
}
