//! Figures of three programs, and the table of them.

use std::process::Command;
use std::thread;

/// The measured program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Keepalived,
    Floor,
    Vipd,
}

/// The goal for a figure.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At most so many times keepalived's figure.
    Keepalived(f64),
    /// At most so many times the floor's.
    Floor(f64),
    /// At most this.
    AtMost(f64),
    /// It has no target.
    None,
}

/// One kind of figure, of all programs, as often as it was taken.
#[derive(Clone, Debug)]
pub struct Row {
    pub work: String,
    pub unit: &'static str,
    pub digits: usize,
    pub goals: Vec<Goal>,
    pub keepalived: Vec<f64>,
    pub floor: Vec<f64>,
    pub vipd: Vec<f64>,
}

impl Row {
    pub fn new(work: &str, unit: &'static str, digits: usize, goals: &[Goal]) -> Self {
        Row {
            work: work.to_owned(),
            unit,
            digits,
            goals: goals.to_vec(),
            keepalived: Vec::new(),
            floor: Vec::new(),
            vipd: Vec::new(),
        }
    }

    pub fn add(&mut self, subject: Subject, value: f64) {
        match subject {
            Subject::Keepalived => self.keepalived.push(value),
            Subject::Floor => self.floor.push(value),
            Subject::Vipd => self.vipd.push(value),
        }
    }

    fn cell(&self, values: &[f64]) -> String {
        let digits = self.digits;
        match values {
            [] => String::new(),
            [one] => format!("{one:.digits$} {}", self.unit),
            values => {
                let low = values.iter().copied().fold(f64::INFINITY, f64::min);
                let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let middle = median(values);
                format!("{middle:.digits$} {} ({low:.digits$}-{high:.digits$})", self.unit)
            }
        }
    }

    /// The goal, and the result.
    fn verdict(&self, goal: Goal) -> (String, String) {
        let ours = median(&self.vipd);
        let yes = |reached: bool| if reached { "yes" } else { "**no**" };
        let against = |name: &str, factor: f64, values: &[f64]| {
            let ratio = ours / median(values);
            let said = if ratio.is_nan() {
                "not measured".to_owned()
            } else {
                format!("{}: {ratio:.2} x", yes(ratio <= factor))
            };
            (format!("{factor} x {name}"), said)
        };
        match goal {
            Goal::Keepalived(factor) => against("keepalived", factor, &self.keepalived),
            Goal::Floor(factor) => against("the floor", factor, &self.floor),
            Goal::AtMost(limit) => {
                (format!("at most {limit} {}", self.unit), yes(ours <= limit).to_owned())
            }
            Goal::None => ("no target".to_owned(), String::new()),
        }
    }
}

/// A ratio to zero is not a number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// `beside`: what stands in keepalived's place.
pub fn print(rows: &[Row], beside: &str) {
    println!();
    println!("{}, {}.", output("date", &["+%F %H:%M"]), machine());
    println!("Median (smallest-largest).");
    println!();
    println!("| work | {beside} | floor | vipd | to reach | reached |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        let cells = [&row.keepalived, &row.floor, &row.vipd].map(|values| row.cell(values));
        let [keepalived, floor, vipd] = cells;
        let (goals, reached): (Vec<_>, Vec<_>) =
            row.goals.iter().map(|goal| row.verdict(*goal)).unzip();
        let (goals, reached) = (goals.join("; "), reached.join("; "));
        println!("| {} | {keepalived} | {floor} | {vipd} | {goals} | {reached} |", row.work);
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut models = info.lines().filter_map(|line| line.strip_prefix("model name"));
    let model = models.next().unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned();
    let count = thread::available_parallelism().map_or(1, usize::from);
    let user = if nix::unistd::getuid().is_root() { "root" } else { "not root" };
    let kernel = output("uname", &["-r"]);
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let busy = busy.split(' ').next().unwrap_or_default().to_owned();
    format!("{count} processors ({model}), Linux {kernel}, {user}, load {busy} at the end")
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().into()).unwrap_or_default()
}
