//! stub until the host branch lands
#![allow(missing_docs)]
use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};
pub struct NeighbourSocket(std::fs::File);
pub struct Sighting {
    pub address: IpAddr,
    pub mac: [u8; 6],
}
impl NeighbourSocket {
    pub fn open(_i: u32, _n: &str, _m: [u8; 6]) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub fn announce(&self, _a: &[IpAddr]) -> io::Result<()> {
        Ok(())
    }
    pub fn watch(&self, _a: &[IpAddr]) -> io::Result<()> {
        Ok(())
    }
    pub fn receive(&mut self, _f: impl FnMut(Sighting)) -> io::Result<usize> {
        Ok(0)
    }
}
impl AsFd for NeighbourSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
