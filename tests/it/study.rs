//! The study: what it measures is what happened, by hand on a small day and by its laws on invented
//! ones; and what its command line refuses.

use millrace::engine::{Engine, Outbox};
use millrace::protocol::command::{Algorithm, Priority};
use millrace::protocol::event::SettledBy;
use millrace::protocol::frame::CommandRef;
use millrace::protocol::json::write_command;
use millrace::protocol::script::ScriptParser;
use millrace::study::bounds::{Bounds, Level, Scale};
use millrace::study::day::{Day, HOUR, Hours, MINUTE, Payment, Shape};
use millrace::study::measures::{BUCKET, MECHANISMS, Measures, Sum};
use millrace::study::picture::{Panel, draw, draw_panel};
use millrace::study::play::{Batches, Played, Rules, Saving, limits, play};
use millrace::study::report::{Origin, lines, to_csv, to_json};
use millrace::study::{EqualDelay, Plan, Study};
use std::process::{Command, Output};
use std::sync::atomic::AtomicU64;

const SAVING: Saving = Saving {
    algorithm: Algorithm::Multiple,
    every_ms: 600_000,
};

const BATCHES: Batches = Batches {
    every_ms: 1_800_000,
    steps: 20_000,
};

fn played(day: &Day, opening: &[u128], rules: Rules) -> Played {
    play(day, opening, rules, &AtomicU64::new(0), &mut |_| {}).unwrap()
}

fn by(measures: &Measures, mechanism: SettledBy) -> Sum {
    let place = MECHANISMS.iter().position(|it| *it == mechanism).unwrap();
    measures.settled_by[place]
}

/// A payment at so many minutes after opening at 07:00.
fn at(minutes: u64, debtor: u32, creditor: u32, amount: u128, class: Priority) -> Payment {
    Payment {
        at: 7 * HOUR + minutes * MINUTE,
        latest_at: 0,
        amount,
        debtor,
        creditor,
        class,
    }
}

/// Three banks, eleven hours (660 minutes), everything by hand.
fn small_day() -> Day {
    use Priority::{High, Normal, Urgent};
    let mut urgent = at(120, 2, 0, 50, Urgent);
    urgent.latest_at = urgent.at + 60 * MINUTE;
    Day {
        hours: Hours::default(),
        participants: 3,
        payments: vec![
            at(0, 0, 1, 60, Normal),
            at(60, 0, 1, 70, Normal),
            at(60, 0, 1, 30, Normal),
            urgent,
            at(160, 1, 0, 40, High),
            at(260, 1, 2, 45, Normal),
        ],
    }
}

#[test]
fn a_small_day_without_liquidity_saving_by_hand() {
    // 0 begins with 100. 60 settles. 70 waits, and 30 behind it. 2 has nothing: its urgent 50
    // expires. 1 pays 40 of its 60: 0 has 80, so 70 settles and 30 goes on waiting, 10 left. 1 pays
    // 45 of its 90. At closing 30 is left.
    let day = small_day();
    let played = played(&day, &[100, 0, 0], Rules::Plain);
    let measures = &played.measures;
    let sum = |count, value| Sum { count, value };
    assert_eq!(measures.all, sum(6, 295));
    assert_eq!(by(measures, SettledBy::Entry), sum(3, 145));
    assert_eq!(by(measures, SettledBy::Release), sum(1, 70));
    assert_eq!(measures.settled(), sum(4, 215));
    assert_eq!(measures.expired, sum(1, 50));
    assert_eq!(measures.end_of_day, sum(1, 30));
    assert_eq!(measures.queued, sum(3, 150));
    assert_eq!(measures.queue_peak, sum(3, 150));
    assert_eq!(measures.provided, 100);
    // 0 went down to 80 - 70 = 10 of 100; the others never below what they began with.
    assert_eq!(measures.used, 90);
    // 70 waited 100 minutes, 30 from minute 60 to 660, 50 counts until closing, too.
    let minute = u128::from(MINUTE);
    assert_eq!(measures.waited, (70 * 100 + 30 * 600 + 50 * 540) * minute);
    let most = 60 * 660 + 70 * 600 + 30 * 600 + 50 * 540 + 40 * 500 + 45 * 400;
    assert_eq!(measures.waited_at_most, most * minute);
    // The urgent one left the queue at minute 180.
    let queue = &measures.queue;
    assert_eq!(queue.len(), 132);
    assert_eq!(
        (queue[11], queue[12], queue[23], queue[24]),
        (0, 100, 100, 150)
    );
    assert_eq!(
        (queue[31], queue[32], queue[35], queue[36]),
        (150, 80, 80, 30)
    );
    assert_eq!(queue[131], 30);
}

#[test]
fn a_small_day_with_liquidity_saving_by_hand() {
    // As above, but 30 overtakes 70 at once: 0 has 10 left. When 1 pays 40, 0 has 50, and 70 waits
    // on. 1 has 50, pays 2 its 45.
    let day = small_day();
    let played = played(&day, &[100, 0, 0], Rules::Saving(SAVING));
    let measures = &played.measures;
    let sum = |count, value| Sum { count, value };
    assert_eq!(by(measures, SettledBy::Entry), sum(4, 175));
    assert_eq!(measures.end_of_day, sum(1, 70));
    assert_eq!(measures.expired, sum(1, 50));
    assert_eq!(measures.used, 90);
    let minute = u128::from(MINUTE);
    assert_eq!(measures.waited, (70 * 600 + 50 * 540) * minute);
}

#[test]
fn a_gridlock_is_resolved_at_the_next_run() {
    let ring = [(0, 0, 1), (3, 1, 2), (5, 2, 0)];
    let day = Day {
        hours: Hours::default(),
        participants: 3,
        payments: ring
            .map(|(m, from, to)| at(m, from, to, 10, Priority::Normal))
            .into(),
    };
    let plain = played(&day, &[0; 3], Rules::Plain).measures;
    assert_eq!(plain.settled(), Sum::default());
    assert_eq!(plain.delay(), 1.0);
    let saving = played(&day, &[0; 3], Rules::Saving(SAVING)).measures;
    assert_eq!(by(&saving, SettledBy::Multiple).count, 3);
    // The first run after the third payment came at minute 5 is that of minute 10.
    assert_eq!(saving.waited, 10 * u128::from((10 + 7 + 5) * MINUTE));
    assert_eq!(
        saving.used, 0,
        "nobody has a balance inside a simultaneous settlement"
    );
}

fn invented(payments: usize, seed: u64) -> Day {
    Day::invent(&Shape {
        payments,
        participants: 12,
        money_market: 80,
        seed,
        hours: Hours::default(),
    })
}

fn seeds() -> std::ops::Range<u64> {
    let more = std::env::var("MILLRACE_STUDY_SEEDS").ok();
    1..more.map_or(5, |text| 1 + text.parse::<u64>().expect("a number"))
}

#[test]
fn the_upper_bound_settles_everything_at_entry() {
    for seed in seeds() {
        let day = invented(800, seed);
        let bounds = Bounds::of(&day);
        let opening = bounds.opening(Scale::OfUpper, Level(10_000));
        assert_eq!(opening, bounds.upper);
        for rules in [Rules::Plain, Rules::Saving(SAVING)] {
            let measures = played(&day, &opening, rules).measures;
            assert_eq!(by(&measures, SettledBy::Entry), measures.all, "seed {seed}");
            assert_eq!((measures.waited, measures.queued.count), (0, 0));
            assert_eq!(measures.used, bounds.upper_sum(), "not a unit too much");
        }
        // And it is the least: whoever has one unit less waits.
        let neediest = (0..12).max_by_key(|bank| opening[*bank]).unwrap();
        let mut less = opening;
        less[neediest] -= 1;
        let measures = played(&day, &less, Rules::Plain).measures;
        assert!(measures.queued.count > 0, "seed {seed}");
    }
}

#[test]
fn the_lower_bound_settles_everything_by_the_end() {
    for seed in seeds() {
        let mut day = invented(800, seed);
        // What expires cannot settle at the end.
        for payment in &mut day.payments {
            payment.latest_at = 0;
        }
        let bounds = Bounds::of(&day);
        let opening = bounds.opening(Scale::Between, Level(0));
        assert_eq!(opening, bounds.lower);
        let measures = played(&day, &opening, Rules::Saving(SAVING)).measures;
        assert_eq!(measures.unsettled(), Sum::default(), "seed {seed}");
        // And it is the least: with one unit less of anybody that is short, something is left.
        let short = (0..12).find(|bank| opening[*bank] > 0).unwrap();
        let mut less = opening;
        less[short] -= 1;
        let measures = played(&day, &less, Rules::Saving(SAVING)).measures;
        assert!(measures.unsettled().count > 0, "seed {seed}");
    }
}

#[test]
fn liquidity_saving_settles_no_less_and_measures_add_up() {
    for seed in seeds() {
        let day = invented(800, seed);
        let bounds = Bounds::of(&day);
        for percent in [5, 20, 50] {
            let opening = bounds.opening(Scale::OfUpper, Level(percent * 100));
            let [plain, saving] = [Rules::Plain, Rules::Saving(SAVING)]
                .map(|rules| played(&day, &opening, rules).measures);
            let settled = |measures: &Measures| measures.settled().value;
            // No law: bypass may spend on small payments what a large one waits for.
            assert!(
                settled(&saving) >= settled(&plain),
                "seed {seed}, {percent} %"
            );
            for measures in [&plain, &saving] {
                assert!(measures.used <= measures.provided);
                assert_eq!(measures.settled() + measures.unsettled(), measures.all);
                // Value x time is the area under the queue, but for what left it at a latest time.
                let area: u128 = measures
                    .queue
                    .iter()
                    .map(|mean| mean * u128::from(BUCKET))
                    .sum();
                let rounding = u128::from(BUCKET) * measures.queue.len() as u128;
                assert!(area <= measures.waited);
                if measures.expired.count == 0 {
                    assert!(
                        measures.waited - area <= rounding,
                        "seed {seed}, {percent} %"
                    );
                }
            }
        }
    }
}

#[test]
fn a_batch_settles_what_queue_order_forbids() {
    // Each queue's first payment is too large for any order that keeps it first; behind them three
    // pay for each other: 7 from 0 to 4, 4 from 4 to 3, 5 from 3 to 0.
    use Priority::Normal;
    let day = Day {
        hours: Hours::default(),
        participants: 5,
        payments: vec![
            at(0, 0, 1, 30, Normal),
            at(1, 1, 2, 5, Normal),
            at(2, 2, 0, 6, Normal),
            at(3, 0, 4, 7, Normal),
            at(4, 4, 3, 4, Normal),
            at(5, 3, 0, 5, Normal),
        ],
    };
    let opening = [3, 4, 5, 4, 3];
    let alone = played(&day, &opening, Rules::Saving(SAVING)).measures;
    assert_eq!(alone.settled(), Sum::default());
    let beside = played(&day, &opening, Rules::Batches(SAVING, BATCHES)).measures;
    let batch = Sum {
        count: 3,
        value: 16,
    };
    assert_eq!(by(&beside, SettledBy::Batch), batch);
    assert_eq!(beside.settled(), batch);
    // At the first look, half an hour after opening: 30, 5 and 6 wait until closing.
    let waited = 7 * 27 + 4 * 26 + 5 * 25 + 30 * 660 + 5 * 659 + 6 * 658;
    assert_eq!(beside.waited, waited * u128::from(MINUTE));
}

fn study(seed: u64) -> (Day, Study) {
    let day = invented(500, seed);
    let plan = Plan {
        levels: [10, 40, 70, 100].map(|percent| Level(percent * 100)).into(),
        scale: Scale::OfUpper,
        saving: SAVING,
        batches: Some(BATCHES),
    };
    let study = Study::make(&day, plan, &AtomicU64::new(0)).unwrap();
    (day, study)
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let origin = Origin {
        source: "seed 3".into(),
        currency: "EUR".into(),
    };
    let bytes = || {
        let (day, study) = study(3);
        let json = to_json(&day, &origin, &study).to_string();
        let mut pictures = draw(&day, &origin, &study).unwrap();
        for panel in Panel::ALL {
            pictures += &draw_panel(panel, &day, &origin, &study).unwrap();
        }
        (lines(&day, &origin, &study), json, to_csv(&study), pictures)
    };
    let (text, json, csv, pictures) = bytes();
    assert_eq!(
        (text.clone(), json.clone(), csv.clone(), pictures.clone()),
        bytes()
    );
    assert_eq!(pictures.matches("</svg>").count(), 5);
    for words in [
        "with liquidity saving",
        "lower bound",
        "minutes",
        "at entry",
        "12:00",
    ] {
        assert!(pictures.contains(words), "{words}");
    }
    assert_eq!(csv.lines().count(), 1 + 4 * 3);
    assert!(text[0].starts_with("5"), "{}", text[0]);
    assert!(json.contains("\"equal_delay\""));
}

#[test]
fn days_at_the_edge_are_drawn() {
    let origin = Origin {
        source: "by hand".into(),
        currency: "EUR".into(),
    };
    // One payment; nothing brought in; nothing ever waits.
    for (payments, level) in [(1, 0), (1, 10_000), (6, 0), (6, 5_000)] {
        let mut day = small_day();
        day.payments.truncate(payments);
        for scale in [Scale::OfUpper, Scale::Between] {
            let plan = Plan {
                levels: vec![Level(level)],
                scale,
                saving: SAVING,
                batches: (level > 0).then_some(BATCHES),
            };
            let study = Study::make(&day, plan, &AtomicU64::new(0)).unwrap();
            assert!(draw(&day, &origin, &study).unwrap().ends_with("</svg>\n"));
            assert!(!lines(&day, &origin, &study).is_empty());
        }
    }
}

#[test]
fn equal_delay_lies_between_levels() {
    let (_, mut study) = study(4);
    let rows = study.rows.len();
    assert_eq!(
        study.level_of_equal_delay(rows - 1, 1),
        EqualDelay::At(100.0)
    );
    // 4 levels; plain waits 900, 500, 100, 0; saving waits 700, 300, 50, 0 of 1,000.
    for (row, waited) in study
        .rows
        .iter_mut()
        .zip([[900, 700], [500, 300], [100, 50], [0, 0]])
    {
        for (played, waited) in row.plays.iter_mut().zip(waited) {
            played.measures.waited = waited;
            played.measures.waited_at_most = 1_000;
        }
    }
    assert_eq!(study.level_of_equal_delay(0, 1), EqualDelay::AtMost(10.0));
    assert_eq!(study.level_of_equal_delay(1, 1), EqualDelay::At(25.0));
    assert_eq!(study.level_of_equal_delay(2, 1), EqualDelay::At(64.0));
}

#[test]
fn the_commands_of_a_play_are_a_script_that_gives_the_same_state() {
    let day = invented(300, 5);
    let opening = Bounds::of(&day).opening(Scale::OfUpper, Level(2_000));
    let mut script = String::new();
    let mut witness = |command: CommandRef<'_>| {
        write_command(&mut script, None, command);
        script.push('\n');
    };
    let rules = Rules::Saving(SAVING);
    let played = play(&day, &opening, rules, &AtomicU64::new(0), &mut witness).unwrap();
    let (mut engine, mut outbox) = (Engine::new(&limits(&day)), Outbox::with_capacity(64));
    let mut parser = ScriptParser::default();
    for line in script.lines() {
        let frame = parser.parse(line).unwrap().unwrap();
        engine.apply(engine.sequence() + 1, frame.as_ref(), &mut outbox);
        engine.audit().unwrap();
        outbox.clear();
    }
    assert_eq!(engine.sequence(), played.commands);
    assert_eq!(engine.digest(), played.digest);
}

fn simulate(args: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_millrace");
    let output = Command::new(binary).arg("simulate").args(args).output();
    output.unwrap()
}

#[test]
fn the_command_line_says_what_is_wrong_in_one_line() {
    for args in [
        &["--payments", "0"][..],
        &["--payments", "5000000"],
        &["--participants", "1"],
        &["--levels", "5,101"],
        &["--levels", "five"],
        &["--levels", ""],
        &["--algorithm", "magic"],
        &["--every", "0"],
        &["--opens", "7"],
        &["--opens", "17:00"],
        &["--money-market", "101"],
        &["--chart", "study.png"],
        &["--input", "/no/such/file.csv"],
        &["--input", "a.csv", "--seed", "2"],
    ] {
        let output = simulate(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_operators_file_is_read_or_refused_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("day.csv");
    let path = path.to_str().unwrap();
    let run = |text: &str| {
        std::fs::write(path, text).unwrap();
        simulate(&["--input", path, "--levels", "50,100"])
    };
    let head = "time,debtor,creditor,amount,priority,latest\n";
    let good =
        format!("{head}07:30,AAAA,BBBB,100.00,,\n08:00:00.5,\"BBBB\",CCCC,70.5,urgent,09:00\n");
    let output = run(&good);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("2 payments of 3 participants"), "{text}");
    // The order of columns is free, and so are semicolons and dates.
    let other = "Amount;Time;Creditor;Debtor\n1;2026-03-02T08:00:00;B;A\n2;2026-03-02 07:00;A;B\n";
    assert!(run(other).status.success());

    for (text, why) in [
        ("", "line 1: no column time"),
        (head, "line 1: no payment follows"),
        ("time,debtor,creditor\n", "line 1: no column amount"),
        (
            "time,debtor,creditor,amount,colour\n",
            "no column is called \"colour\"",
        ),
        (
            "time,time,creditor,amount\n",
            "line 1: column time is there twice",
        ),
        (
            &format!("{head}07:30,A,B\n"),
            "line 2: 3 fields where the first line has 6",
        ),
        (
            &format!("{head}07:30,A,B,1,,\n25:00,A,B,1,,\n"),
            "line 3: time \"25:00\" is no time",
        ),
        (
            &format!("{head}06:59,A,B,1,,\n"),
            "line 2: time 06:59 is not between",
        ),
        (
            &format!("{head}18:00,A,B,1,,\n"),
            "line 2: time 18:00 is not between",
        ),
        (
            &format!("{head}07:30,A,A,1,,\n"),
            "line 2: debtor and creditor are the same",
        ),
        (&format!("{head}07:30,,B,1,,\n"), "line 2: no debtor"),
        (&format!("{head}07:30,A,B,0.00,,\n"), "line 2: amount is 0"),
        (
            &format!("{head}07:30,A,B,-5,,\n"),
            "line 2: amount \"-5\" is no number",
        ),
        (
            &format!("{head}07:30,A,B,1.234,,\n"),
            "line 2: amount \"1.234\" is no number",
        ),
        (
            &format!("{head}07:30,A,B,9999999999999999,,\n"),
            "line 2: amount 9999999999999999 is beyond",
        ),
        (
            &format!("{head}07:30,A,B,1,rush,\n"),
            "line 2: priority \"rush\"",
        ),
        (
            &format!("{head}07:30,A,B,1,,07:30\n"),
            "line 2: latest 07:30 is not after time",
        ),
        (
            &format!("{head}2026-03-02T07:30,A,B,1,,\n2026-03-03T07:30,A,B,1,,\n"),
            "line 3: time is of 2026-03-03",
        ),
    ] {
        let output = run(text);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains(why) && error.lines().count() == 1,
            "{text}: {error}"
        );
    }
}
