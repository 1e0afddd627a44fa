//! What else is promised of an installed vipd.

use crate::Site;

pub fn all() -> Vec<(&'static str, fn(&Site))> {
    vec![]
}
