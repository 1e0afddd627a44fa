//! `vipd watch`: the status, live in the terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use crossterm::cursor::{Hide, MoveTo, MoveToNextLine, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::Print;
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
    EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::output::{BOLD, PLAIN, RED, YELLOW, fail, paint, wrap};
use super::status::{View, transition};
use crate::api::status::{Change, Status};
use crate::api::{Client, ClientError};

/// Time between two requests.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Time between two redraws: deadlines count down in tenths of a second.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// A status this old is shown with a warning.
const STALE: Duration = Duration::from_millis(1500);
/// Maximum width of a line, however wide the terminal is.
const MAX_WIDTH: usize = 100;

/// Shows the status until a key or a signal ends it.
pub(super) fn run(runtime_dir: &Path, name: Option<&str>) -> ExitCode {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return fail("watch needs a terminal; for programs there is \"vipd status --json\"");
    }
    // Fail at once with an error that waiting does not change.
    match Client::new(runtime_dir).status() {
        Ok(status) => {
            if let Some(name) = name
                && status.find(name).is_none()
            {
                return fail(super::status::unknown(&status, name));
            }
        }
        Err(error @ (ClientError::NotAllowed(_) | ClientError::NotUnderstood(_))) => {
            return fail(error);
        }
        Err(ClientError::NoDaemon(_) | ClientError::Lost(..) | ClientError::Refused { .. }) => {}
    }
    match show(runtime_dir, name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("the terminal cannot be used: {error}")),
    }
}

fn show(runtime_dir: &Path, name: Option<&str>) -> io::Result<()> {
    let told_to_end = Arc::new(AtomicBool::new(false));
    // Not SIGHUP: when the terminal is gone there is nothing to restore or to wait for.
    for signal in [libc::SIGTERM, libc::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_end))?;
    }
    let (sender, answers) = mpsc::sync_channel(1);
    let client = Client::new(runtime_dir);
    std::thread::Builder::new().name("ask".into()).spawn(move || ask(&client, &sender))?;
    let mut latest = LatestStatus { name, status: None, error: None, began: Instant::now() };
    let screen = Screen::open()?;
    while !told_to_end.load(Ordering::Relaxed) {
        latest.take_in(&answers);
        let (columns, rows) = terminal::size()?;
        let colours = std::env::var_os("NO_COLOR").is_none();
        screen.draw(&latest.lines(usize::from(columns), usize::from(rows), colours))?;
        if !waited_for_key()? {
            break;
        }
        while event::poll(Duration::ZERO)? {
            if is_end(&event::read()?) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Waits for a key until the next redraw. Returns whether the terminal is still there; crossterm would
/// block for ever without one.
fn waited_for_key() -> io::Result<bool> {
    let stdin = io::stdin();
    let mut waiting = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(DRAW_EVERY).unwrap_or(PollTimeout::ZERO);
    match poll(&mut waiting, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let came = waiting[0].revents().unwrap_or(PollFlags::empty());
    Ok(!came.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL))
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
            KeyCode::Char('c' | 'd') => control,
            _ => false,
        }
}

/// Runs on a thread of its own, so that a daemon that does not answer delays no key.
fn ask(client: &Client, sender: &SyncSender<(Instant, Result<Status, String>)>) {
    loop {
        let asked_at = Instant::now();
        let answer = client.status().map_err(|error| error.to_string());
        if sender.send((asked_at, answer)).is_err() {
            return;
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// What the daemon last answered.
struct LatestStatus<'a> {
    name: Option<&'a str>,
    /// The newest status, and when it was requested.
    status: Option<(Instant, Status)>,
    /// Why there is no newer one.
    error: Option<String>,
    began: Instant,
}

impl LatestStatus<'_> {
    fn take_in(&mut self, answers: &Receiver<(Instant, Result<Status, String>)>) {
        while let Ok((at, answer)) = answers.try_recv() {
            match answer {
                Ok(status) => (self.status, self.error) = (Some((at, status)), None),
                Err(why) => self.error = Some(why),
            }
        }
    }

    /// The whole screen, at most this large.
    fn lines(&self, columns: usize, rows: usize, colours: bool) -> Vec<String> {
        let width = columns.clamp(20, MAX_WIDTH);
        let view = View { now: SystemTime::now(), colours, width };
        let mut lines = Vec::new();
        let age = self.status.as_ref().map_or(self.began.elapsed(), |(at, _)| at.elapsed());
        if self.error.is_some() || age > STALE {
            let why = self.error.as_deref().unwrap_or("vipd does not answer");
            let since = match &self.status {
                Some(_) => format!("; what follows is {} s old", age.as_secs()),
                None => String::new(),
            };
            let banner = format!("NO ANSWER: {why}{since}; asking again");
            lines.extend(wrap(&banner, width).iter().map(|part| paint(colours, RED, part)));
            lines.push(String::new());
        }
        if let Some((_, status)) = &self.status {
            let status = status.clone().aged(age);
            match self.name.map(|name| (name, status.find(name))) {
                Some((_, Some(router))) => {
                    lines.extend(view.one(&status, router).lines().map(str::to_owned));
                }
                Some((name, None)) => {
                    let gone = format!("{name} is not configured any more");
                    lines.push(paint(colours, YELLOW, &gone));
                }
                None => {
                    lines.extend(view.table(&status).lines().map(str::to_owned));
                    lines.extend(last_changes(&status, view));
                }
            }
        }
        let keys = "q ends";
        let room = rows.saturating_sub(1);
        if lines.len() > room {
            lines.truncate(room);
            lines.push(paint(colours, BOLD, "... more than fits here; q ends"));
        } else {
            lines.resize(room, String::new());
            lines.push(paint(colours, BOLD, keys));
        }
        lines
    }
}

/// The last changes of all virtual routers, the newest first.
fn last_changes(status: &Status, view: View) -> Vec<String> {
    let mut changes: Vec<(&str, &Change)> = status
        .routers
        .iter()
        .flat_map(|router| router.transitions.iter().map(|change| (router.name.as_str(), change)))
        .collect();
    changes.sort_by(|(_, one), (_, other)| other.at.cmp(&one.at));
    if changes.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![String::new(), paint(view.colours, BOLD, "LAST CHANGES")];
    for (name, change) in changes {
        let sentence = format!("{name}: {}", transition(change));
        for (n, part) in wrap(&sentence, view.width.saturating_sub(4)).iter().enumerate() {
            let margin = if n == 0 { "" } else { "    " };
            lines.push(paint(view.colours, PLAIN, &format!("{margin}{part}")));
        }
    }
    lines
}

/// Whether the terminal is in our mode.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// The terminal in raw mode and on its alternate screen; restored when this is dropped and on a panic.
#[derive(Debug)]
pub struct Screen(());

impl Screen {
    /// Switches the terminal over.
    ///
    /// # Errors
    /// It is not a terminal, or does not support this.
    pub fn open() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
        terminal::enable_raw_mode()?;
        ACTIVE.store(true, Ordering::Relaxed);
        // From here on it is restored whatever happens.
        let screen = Screen(());
        execute!(io::stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }

    /// Shows these lines and nothing else.
    ///
    /// # Errors
    /// Writing to the terminal fails.
    pub fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, BeginSynchronizedUpdate, MoveTo(0, 0))?;
        for (n, line) in lines.iter().enumerate() {
            if n > 0 {
                queue!(out, MoveToNextLine(1))?;
            }
            queue!(out, Print(line), Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, only once, so that later output is not overwritten. Errors have no remedy.
fn restore() {
    if !ACTIVE.swap(false, Ordering::Relaxed) {
        return;
    }
    let _ = execute!(io::stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}
