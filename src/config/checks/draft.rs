//! A check as far as it could be understood.

use super::host::CheckPlaces;
use super::plan::CheckPlan;
use crate::config::file;
use crate::vrrp::CheckConfig;

/// A check as far as it could be understood.
pub(in crate::config) struct CheckDraft<'f> {
    pub file: &'f file::CheckTable,
    /// `None` if something that has no default is missing or wrong.
    pub result: Option<(CheckConfig, CheckPlan, CheckPlaces)>,
}

impl<'f> CheckDraft<'f> {
    pub fn name(&self) -> Option<&'f str> {
        self.file.name.as_ref().map(|name| name.value.as_str())
    }
}
