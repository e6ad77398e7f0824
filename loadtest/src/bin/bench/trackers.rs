//! The rounds of other makers' trackers: what the edge takes for their requests, beside its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use loadtest::corpus::Corpus;
use loadtest::rig::collector::Collector;
use loadtest::rig::process::root;
use loadtest::trackers::{Load, loads};

use crate::configuration::{NO_DATABASE, start};
use crate::cost::Meter;
use crate::figures::Tracked;
use crate::tls::Files;
use crate::wrk;

/// How long nothing must be recorded for nothing to be under way.
const SETTLING_TIME: Duration = Duration::from_millis(50);

/// The loads, as files that wrk reads, and the folder of the collector that takes them.
pub(crate) struct Trackers {
    loads: Vec<(Load, PathBuf)>,
    dir: PathBuf,
    sends: u32,
}

impl Trackers {
    /// Makes the loads, with the headers of a corpus, in a new folder.
    pub(crate) fn make(corpus: &Corpus, dir: &Path) -> anyhow::Result<Trackers> {
        let dir = dir.join("trackers");
        std::fs::create_dir(&dir)?;
        let loads = loads(corpus, &root().join("tests/recorded"))?.into_iter();
        let loads = loads.map(|load| {
            let file = dir.join(load.name);
            load.corpus.write(&file)?;
            anyhow::Ok((load, file))
        });
        Ok(Trackers {
            loads: loads.collect::<Result<_, _>>()?,
            dir,
            sends: 0,
        })
    }

    /// Sends each load for `time` to a collector whose spool is empty and whose database cannot be
    /// reached. A round in which an event was refused fails.
    pub(crate) async fn round(
        &mut self,
        time: Duration,
        key: &str,
        certificate: &Files,
        figures: &mut Vec<Tracked>,
    ) -> anyhow::Result<()> {
        let dir = self.dir.join("collector");
        let collector = start(&dir, NO_DATABASE, true, key, certificate).await?;
        for (load, file) in &self.loads {
            self.sends += 1;
            let before = settled(&collector).await?;
            let meter = Meter::start([collector.root()]);
            let sent = wrk::run(collector.http, file, self.sends, time, true).await?;
            let cost = meter.stop(sent.answered);
            let recorded = settled(&collector).await? - before;
            let least = sent.answered * load.events as u64;
            let most = (sent.answered + wrk::CONNECTIONS) * load.events as u64;
            anyhow::ensure!(
                sent.errors == 0 && (least..=most).contains(&recorded),
                "{}: {recorded} were recorded, of {sent:?}",
                load.name
            );
            let micros = cost.micros().sum();
            match figures.iter_mut().find(|known| known.name == load.name) {
                Some(known) => known.micros.push(micros),
                None => figures.push(Tracked {
                    name: load.name,
                    events: load.events,
                    beside: load.beside,
                    micros: vec![micros],
                }),
            }
        }
        collector.stop().await?;
        Ok(std::fs::remove_dir_all(dir)?)
    }
}

/// Returns how many hits were recorded, once those are that were under way when wrk ended.
async fn settled(collector: &Collector) -> anyhow::Result<u64> {
    let mut before = collector.counters().await?.recorded;
    loop {
        tokio::time::sleep(SETTLING_TIME).await;
        let recorded = collector.counters().await?.recorded;
        if recorded == before {
            return Ok(recorded);
        }
        before = recorded;
    }
}
