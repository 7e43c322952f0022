//! What stands for the GPU in a program without it: types that nothing is of.

use super::{DeviceError, Keep, PictureParts};
use crate::map::FeatureMap;
use crate::transformer::Block;

/// A GPU.
#[derive(Clone, Debug)]
pub enum Device {}

impl Device {
    /// Opens the first GPU that the driver shows.
    ///
    /// # Errors
    /// [`DeviceError::NotBuilt`] always.
    pub fn open() -> Result<Self, DeviceError> {
        Err(DeviceError::NotBuilt)
    }
}

/// Blocks on a GPU.
#[derive(Debug)]
pub enum DeviceStack {}

impl DeviceStack {
    /// Brings blocks there.
    ///
    /// # Errors
    /// None: there is no device to call it with.
    pub fn new(device: &Device, _: &[Block]) -> Result<Self, DeviceError> {
        match *device {}
    }

    /// Carries sequences through the blocks.
    ///
    /// # Errors
    /// None: there is no stack to call it on.
    pub fn forward(&self, _: &[f32], _: &[usize], _: bool, _: Keep<'_>) -> Result<Vec<f32>, DeviceError> {
        match *self {}
    }
}

/// A vision transformer on a GPU.
#[derive(Debug)]
pub enum DevicePictures {}

impl DevicePictures {
    /// Brings patches and blocks there.
    ///
    /// # Errors
    /// None: there is no device to call it with.
    pub fn new(device: &Device, _: PictureParts<'_>, _: &[Block]) -> Result<Self, DeviceError> {
        match *device {}
    }

    /// Carries pictures through patches and blocks.
    ///
    /// # Errors
    /// None: there is nothing to call it on.
    pub fn forward(&self, _: &[FeatureMap], _: Keep<'_>) -> Result<Vec<f32>, DeviceError> {
        match *self {}
    }

    /// Brings pictures there.
    ///
    /// # Errors
    /// None: there is nothing to call it on.
    pub fn upload(&self, _: &[FeatureMap]) -> Result<Uploaded, DeviceError> {
        match *self {}
    }

    /// The same for pictures that are there.
    ///
    /// # Errors
    /// None: there is nothing to call it on.
    pub fn forward_uploaded(&self, _: &Uploaded, _: Keep<'_>) -> Result<Vec<f32>, DeviceError> {
        match *self {}
    }
}

/// Pictures on a GPU.
#[derive(Debug)]
pub enum Uploaded {}
