//! A virtual router as far as it could be read.

use std::ops::Range;

use super::addresses::ListedAddress;
use crate::config::file;
use crate::config::hooks::{HookPlaces, Hooks};
use crate::config::reader::At;
use crate::vrrp::{Family, RouterConfig, Vrid};

/// Holds what is valid on its own, so that routers can be compared in spite of errors.
pub(in crate::config) struct RouterDraft<'f> {
    pub file: &'f file::RouterTable,
    pub name: Option<&'f At<String>>,
    pub(super) interface: Option<&'f At<String>>,
    pub(super) vrid: Option<(Vrid, Range<usize>)>,
    pub(super) family: Option<Family>,
    pub(super) addresses: Vec<ListedAddress>,
    /// `None` if a required value is missing or wrong.
    pub result: Option<(RouterConfig, Hooks, HookPlaces)>,
}
