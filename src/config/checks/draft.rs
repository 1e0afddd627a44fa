//! A check as far as it could be read.

use super::host::CheckPlaces;
use super::plan::CheckPlan;
use crate::config::file;
use crate::vrrp::CheckConfig;

pub(in crate::config) struct CheckDraft<'f> {
    pub file: &'f file::CheckTable,
    /// `None` if a required value is missing or wrong.
    pub result: Option<(CheckConfig, CheckPlan, CheckPlaces)>,
}

impl<'f> CheckDraft<'f> {
    pub(crate) fn name(&self) -> Option<&'f str> {
        self.file.name.as_ref().map(|name| name.value.as_str())
    }
}
