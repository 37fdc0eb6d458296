//! Draws a surge: the depth of the queue and what was acknowledged and released, and below it the
//! memory. Plain SVG, so that it can be read and compared as text. It computes nothing else.

use super::Look;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
/// Top and height of the two panels.
const ORDERS: (f64, f64) = (60.0, 320.0);
const MEMORY: (f64, f64) = (430.0, 110.0);
const HEIGHT: f64 = 590.0;
/// More points than can be told apart.
const POINTS_MAX: usize = 400;
/// Lines across a panel.
const STEPS: u32 = 4;

struct Panel {
    place: (f64, f64),
    seconds: f64,
    most: f64,
}

/// The picture.
pub(super) fn draw(title: &str, looks: &[Look]) -> String {
    let seconds = looks.last().map_or(1.0, |look| look.at_ms as f64 / 1_000.0).max(1.0);
    let most = looks.iter().map(|look| look.acknowledged).max().unwrap_or(1);
    let mib = looks.iter().map(|look| look.memory_mib).fold(1.0, f64::max);
    let orders = Panel { place: ORDERS, seconds, most: round_up(most as f64) };
    let memory = Panel { place: MEMORY, seconds, most: round_up(mib) };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"#fff\"/>\n<text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{title}</text>\n"
    );
    svg += &orders.frame("orders");
    svg += &memory.frame("MiB");
    svg += &seconds_below(&memory);
    for (number, (name, color, of)) in [
        ("acknowledged (202)", "#888888", (|look| look.acknowledged as f64) as fn(&Look) -> f64),
        ("released", "#2a9d2a", |look| look.queue.released as f64),
        ("waiting in the queue", "#c8321e", |look| look.queue.waiting() as f64),
    ]
    .into_iter()
    .enumerate()
    {
        svg += &orders.line(looks, color, of);
        let x = LEFT + 220.0 * number as f64;
        svg += &format!("<text x=\"{x}\" y=\"46\" fill=\"{color}\">— {name}</text>\n");
    }
    svg += &memory.line(looks, "#2050b0", |look| look.memory_mib);
    let y = MEMORY.0 - 10.0;
    svg += &format!("<text x=\"{LEFT}\" y=\"{y}\" fill=\"#2050b0\">— memory, all of it</text>\n");
    svg + "</svg>\n"
}

impl Panel {
    fn point(&self, seconds: f64, value: f64) -> (f64, f64) {
        let (top, height) = self.place;
        let x = LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT);
        (x, top + height - value / self.most * height)
    }

    fn line(&self, looks: &[Look], color: &str, of: fn(&Look) -> f64) -> String {
        let every = looks.len().div_ceil(POINTS_MAX).max(1);
        let last = looks.len().saturating_sub(1);
        let chosen = looks.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
        let points = chosen.map(|(_, look)| {
            let (x, y) = self.point(look.at_ms as f64 / 1_000.0, of(look));
            format!("{x:.1},{y:.1}")
        });
        let points: Vec<_> = points.collect();
        let points = points.join(" ");
        let style = format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"");
        format!("<polyline {style} points=\"{points}\"/>\n")
    }

    /// Lines across, with what they stand for.
    fn frame(&self, unit: &str) -> String {
        let mut frame = String::new();
        for step in 0..=STEPS {
            let value = self.most * f64::from(step) / f64::from(STEPS);
            let ((x, y), (end, _)) = (self.point(0.0, value), self.point(self.seconds, value));
            frame += &format!(
                "<path d=\"M{x:.1} {y:.1}H{end:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" \
                 y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
                x - 8.0,
                y + 4.0
            );
        }
        let (top, height) = self.place;
        let (x, y) = (LEFT - 62.0, top + height / 2.0);
        frame += &format!("<text transform=\"translate({x},{y}) rotate(-90)\">{unit}</text>\n");
        frame
    }
}

fn seconds_below(panel: &Panel) -> String {
    let mut text = String::new();
    let step = round_up(panel.seconds / 8.0);
    let mut seconds = 0.0;
    while seconds <= panel.seconds {
        let (x, y) = panel.point(seconds, 0.0);
        let y = y + 20.0;
        text +=
            &format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{seconds} s</text>\n");
        seconds += step;
    }
    text
}

/// The next number that is 1, 2, 4 or 5 with zeros.
fn round_up(value: f64) -> f64 {
    let ten = 10_f64.powf(value.max(1.0).log10().floor());
    let found = [1.0, 2.0, 4.0, 5.0].into_iter().map(|digit| digit * ten);
    found.into_iter().find(|round| *round >= value).unwrap_or(10.0 * ten)
}
