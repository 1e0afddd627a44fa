//! What the fuzz targets (`fuzz/`) need of parsers that are private otherwise. No interface: it
//! changes with them, and the program does not use it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::api::events::Event;
use crate::api::status::Status;
use crate::config::Http;
use crate::daemon::status::rfc3339;
use crate::doctor::firewall::Ruleset;
use crate::doctor::rule_match::{AdvertPacket, Direction};
use crate::doctor::{managers, removal};
use crate::exporter::metrics::{self, Format};
use crate::exporter::{self, HttpServer};
use crate::helper::checks::{file, http, ping, reporter, unit};
use crate::helper::exec_hook::ExecSpec;
use crate::helper::output;
use crate::helper::protocol::{HelperEvent, HelperRequest};
use crate::host::advert_capture;
use crate::host::neighbours::{self, ForeignAnnouncement};
use crate::host::netlink::{AddressError, NeighbourTable, NetEvent, wire};
use crate::host::record;
use crate::host::sys::ReceivedPacket;
use crate::vrrp::record::{PreviousRecord, RecordedAddress};
use crate::vrrp::{Family, RecordEntry};

/// One netlink message, read in each way in which one may be read.
#[derive(Clone, Debug)]
pub struct NetlinkMessage {
    pub event: Option<NetEvent>,
    pub outcome: Result<(), AddressError>,
    /// State and protocol.
    pub neighbour: Option<(u16, Option<u8>)>,
    pub table: Option<NeighbourTable>,
}

/// The messages of a netlink datagram.
pub fn netlink(datagram: &[u8]) -> Vec<NetlinkMessage> {
    let parsed = wire::messages(datagram).map(|message| NetlinkMessage {
        event: NetEvent::of(&message),
        outcome: message.outcome(),
        neighbour: wire::neighbour(message.payload),
        table: wire::neighbour_table(message.payload),
    });
    parsed.collect()
}

/// The announcement in an Ethernet frame.
pub fn announcement(frame: &[u8]) -> Option<ForeignAnnouncement> {
    neighbours::decode_announcement(frame)
}

/// The frame that announces an address at a MAC address.
pub fn announced(announcement: ForeignAnnouncement) -> Vec<u8> {
    let ForeignAnnouncement { address, mac } = announcement;
    let mut frame = vec![0; 128];
    let length = match address {
        IpAddr::V4(address) => neighbours::gratuitous_arp(mac, address, &mut frame),
        IpAddr::V6(address) => {
            neighbours::unsolicited_advertisement(mac, address, false, &mut frame)
        }
    };
    frame.truncate(length);
    frame
}

/// Source, destination and message of a captured advert.
pub fn captured(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let captured = advert_capture::ipv4(packet).or_else(|| advert_capture::ipv6(packet))?;
    Some((captured.source, captured.destination, captured.message))
}

/// The token of an echo reply.
pub fn echo_token(packet: &[u8], family: Family, with_header: bool) -> Option<u64> {
    ping::token(packet, family, with_header)
}

/// What the kernel says of a packet beside its bytes.
#[derive(Debug)]
pub struct Ancillary {
    pub source: Option<IpAddr>,
    pub destination: Option<Ipv6Addr>,
    pub hop_limit: Option<u8>,
    pub error: Option<io::Error>,
    pub outgoing: bool,
}

/// Takes the address and the control messages of a packet apart.
pub fn ancillary(name: &[u8], control: &[u8]) -> Ancillary {
    let packet = ReceivedPacket { name, control, payload: &[] };
    Ancillary {
        source: packet.source(),
        destination: packet.destination_v6(),
        hop_limit: packet.hop_limit(),
        error: packet.error(),
        outgoing: packet.is_outgoing(),
    }
}

/// What a check of the unit `web.service` reports, if systemd answers this; `None`: it never ends.
pub fn unit_check(answers: &[u8]) -> Option<Result<String, String>> {
    let check = unit::UnitCheck::new("web.service");
    let stream = Answers { bytes: answers, asked: false };
    finished(check.run_over(stream), answers.len()).map(shown)
}

/// What an `http` check reports, if the server answers this; `None`: it never ends.
pub fn http_check(
    answer: &[u8],
    status: Option<u16>,
    body: Option<&str>,
) -> Option<Result<String, String>> {
    let url = "http://192.0.2.1/healthz".to_owned();
    let target = http::HttpTarget::of(&url);
    let stream = http::Limited::new(Answers { bytes: answer, asked: false });
    let request = target.and_then(|target| target.request(&stream.interim));
    let wanted = Http { url, status, body: body.map(str::to_owned), ca_file: None };
    let run = async { http::exchange(stream, request?, &wanted).await };
    finished(run, answer.len()).map(shown)
}

/// What the exporter of a host without a daemon answers to a client that sends this and closes its side.
///
/// # Errors
/// This process may not start a thread.
pub fn exporter(requests: &[u8]) -> io::Result<Vec<u8>> {
    type Exporter = (tokio::runtime::Runtime, Arc<HttpServer>);
    thread_local! {
        // For all inputs, as their daemon is asked at most four times a second.
        static EXPORTER: io::Result<Exporter> = (|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            Ok((runtime, Arc::new(HttpServer::new(Path::new("/nowhere"))?)))
        })();
    }
    EXPORTER.with(|exporter| match exporter {
        Ok((runtime, server)) => {
            let mut answer = Vec::new();
            let stream = tokio::io::join(requests, &mut answer);
            runtime.block_on(exporter::serve_client(stream, server));
            Ok(answer)
        }
        Err(error) => Err(error.kind().into()),
    })
}

fn shown(outcome: Result<String, String>) -> Result<String, String> {
    outcome.map(|text| reporter::shown(&text)).map_err(|text| reporter::shown(&text))
}

/// The number in a file that a `file` check reads.
pub fn file_number(text: &str) -> Option<i16> {
    file::parse(text)
}

/// A message between daemon and helper, or from the helper to a program, encoded again; `None` for
/// each kind that it is not. What the daemon shows of one is made, too.
pub fn helper_message(packet: &[u8]) -> [Option<Vec<u8>>; 3] {
    if let Ok(HelperEvent::CheckRuns(runs)) = serde_json::from_slice(packet) {
        runs.into_iter().for_each(|run| drop(rfc3339(run.at)));
    }
    fn again<T: Serialize + DeserializeOwned>(packet: &[u8]) -> Option<Vec<u8>> {
        serde_json::to_vec(&serde_json::from_slice::<T>(packet).ok()?).ok()
    }
    [again::<HelperRequest>(packet), again::<HelperEvent>(packet), again::<ExecSpec>(packet)]
}

/// Output of a program as it is logged, and the end of it as it is reported.
pub fn program_output(bytes: &[u8]) -> (String, String) {
    (output::printable(bytes), output::excerpt(bytes))
}

/// An event of the history as `vipd events` prints it.
pub fn sentence(event: &Event) -> String {
    crate::cli::events::sentence(event)
}

/// Everything that is made of a status: tables and pages of this width, metrics, health.
pub fn status(status: &Status, now: SystemTime, width: usize) -> StatusTexts {
    let view = crate::cli::status::View { now, colours: false, width };
    let pages = std::iter::once(view.table(status))
        .chain(status.routers.iter().map(|router| view.one(status, router)));
    let metrics = |format| metrics::metrics(Some(status), now, format);
    StatusTexts {
        pages: pages.collect(),
        metrics: [metrics(Format::Text), metrics(Format::OpenMetrics)],
        health: exporter::health(status),
    }
}

/// What is shown of a status.
#[derive(Debug)]
pub struct StatusTexts {
    pub pages: Vec<String>,
    pub metrics: [String; 2],
    pub health: Result<String, String>,
}

/// The record of an earlier daemon.
pub fn record(bytes: &[u8], boot_id: [u8; 16], suspended: Duration) -> PreviousRecord {
    record::parse(bytes, boot_id, suspended)
}

/// An entry of the record as it is written.
pub fn record_slot(identity: u64, entry: RecordEntry) -> [u8; 64] {
    record::slot_bytes(identity, entry)
}

/// A line of the list of addresses beside the record.
pub fn recorded_address(line: &str) -> Option<RecordedAddress> {
    record::parse_address(line)
}

/// For each packet, the chain and the rule that drop it.
///
/// # Errors
/// It is not the output of `nft -j list ruleset`.
#[allow(clippy::type_complexity)]
pub fn blocked(
    ruleset: &[u8],
    interface: &str,
    packets: &[(IpAddr, IpAddr)],
) -> Result<Vec<Option<(String, String)>>, String> {
    let rules = Ruleset::parse(ruleset)?;
    let directions = [Direction::In, Direction::Out].into_iter();
    let blocked = directions.flat_map(|direction| {
        let rules = &rules;
        packets.iter().map(move |&(source, destination)| {
            let source = Some(source);
            let blocked = rules.blocks(&AdvertPacket { direction, interface, source, destination });
            blocked.map(|blocked| (blocked.chain, blocked.by))
        })
    });
    Ok(blocked.collect())
}

/// The values of a key in a file of systemd or NetworkManager.
pub fn values<'a>(text: &'a str, section: &'a str, key: &'a str) -> Vec<&'a str> {
    managers::values(text, section, key).collect()
}

/// Whether `/proc/net/tcp` or `/proc/net/tcp6` lists an open connection to an address.
pub fn has_connection(text: &str, ip: IpAddr) -> bool {
    removal::has_connection(text, ip)
}

/// A peer that answers the first request with these bytes, whatever it was, and closes the connection.
struct Answers<'a> {
    bytes: &'a [u8],
    asked: bool,
}

impl AsyncRead for Answers<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Polled again without being woken: see `finished`.
        if !self.asked {
            return Poll::Pending;
        }
        let (now, later) = self.bytes.split_at(buffer.remaining().min(self.bytes.len()));
        buffer.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Answers<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The result of a task that waits for nothing outside it; `None` if it takes more steps than there
/// are bytes to read.
fn finished<T>(task: impl Future<Output = T>, length: usize) -> Option<T> {
    let mut task = pin!(task);
    let mut context = Context::from_waker(Waker::noop());
    (0..length + 64).find_map(|_| match task.as_mut().poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    })
}
