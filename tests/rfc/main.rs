//! What RFC 9568 (with errata 8298-8301) and RFC 3768 (for version 2) require of a virtual router, and
//! what vipd adds to them: each requirement as a test that it holds and one that its opposite is
//! refused.
//!
//! Everything goes through [`vipd::vrrp::Node::handle`]; adverts arrive as bytes.

#![allow(clippy::unwrap_used)]

mod addresses;
mod announcements;
mod backup;
mod before_release;
mod checks;
mod delays;
mod drained;
mod exclusive;
mod fault;
mod fixture;
mod floods;
mod groups;
mod hooks;
mod initialize;
mod ip_header;
mod late;
mod lease;
mod many;
mod master;
mod message;
mod overlap;
mod peers;
mod reload;
mod resume;
mod sending;
mod source;
mod stop;
mod timers;
mod version_2;
