//! The machine: everything privileged or with a clock.

pub mod privileges;
pub mod signals;
pub mod sys;
pub mod systemd;
