//! Filters such as `taken > 2020-01-01 AND kind = image AND folder = 'trips/*' AND size < 2MB`.

use std::str::FromStr;

use crate::FilterError;

/// A condition on items.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    source: String,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`FilterError`] with the place at fault and what was expected there.
    pub fn parse(source: &str) -> Result<Filter, FilterError> {
        Ok(Filter { source: source.to_owned() })
    }

    /// What was read.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(source: &str) -> Result<Self, FilterError> {
        Filter::parse(source)
    }
}
