//! A sample in OpenMetrics text. `docs/metrics.md` has a row for each metric, which a test compares
//! with what a running daemon exposes.

use std::fmt;
use std::sync::Arc;

use pinfold_gateway::{OUTCOMES, REFUSALS};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::{PluginSample, Sample};
use crate::meters::{DECISIONS, SERVICES};
use crate::state::{Left, State};

/// OpenMetrics text of a sample, with its end mark.
pub(crate) fn expose(sample: Sample) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Arc::new(Exposition(sample))));
    let mut exposed = String::new();
    text::encode(&mut exposed, &registry).expect("a String takes every text");
    exposed
}

/// One metric family: its name without unit and suffix, what it means, its unit.
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
}

const fn family(name: &'static str, help: &'static str) -> Family {
    let unit = None;
    Family { name, help, unit }
}

const fn measured(name: &'static str, unit: Unit, help: &'static str) -> Family {
    let unit = Some(unit);
    Family { name, help, unit }
}

type Labels<'a> = &'a [(&'static str, &'a str)];

#[derive(Debug)]
struct Exposition(Sample);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.about_the_build(encoder)?;
        self.about_states(encoder)?;
        self.about_handovers(encoder)?;
        self.about_calls(encoder)?;
        self.about_host_calls(encoder)?;
        self.about_resources(encoder)?;
        self.about_controls(encoder)?;
        self.about_processes(encoder)
    }
}

impl Exposition {
    fn about_the_build(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let about = "The daemon that runs";
        let mut metric =
            encoder.encode_descriptor("pinfold_build", about, None, MetricType::Info)?;
        let labels: Labels<'_> = &[("version", env!("CARGO_PKG_VERSION"))];
        metric.encode_info(&labels)
    }

    fn about_states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let about = "Plugins by state";
        gauges(encoder, &family("pinfold_plugins", about), |metric| {
            for state in State::ALL {
                let plugins = self.0.plugins.iter();
                let count = plugins.filter(|p| p.snapshot.state == state).count();
                gauge(metric, &[("state", state.as_str())], whole(count))?;
            }
            Ok(())
        })?;
        let about = "1 for the state that the plugin is in";
        gauges(encoder, &family("pinfold_plugin_state", about), |metric| {
            self.each(|plugin, name| {
                let state = plugin.snapshot.state.as_str();
                gauge(metric, &[("plugin", name), ("state", state)], 1_u64)
            })
        })?;
        let about = "Whether an instance of the plugin serves";
        gauges(encoder, &family("pinfold_plugin_up", about), |metric| {
            self.each(|plugin, name| {
                let up = u64::from(plugin.snapshot.state.serves());
                gauge(metric, &[("plugin", name)], up)
            })
        })?;
        let about = "Times the plugin was started again after it had ended by itself";
        counters(
            encoder,
            &family("pinfold_plugin_restarts", about),
            |metric| {
                self.each(|plugin, name| {
                    counter(metric, &[("plugin", name)], plugin.snapshot.restarts)
                })
            },
        )
    }

    fn about_handovers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let about = "Instances of the plugin that the daemon before left, by what became of them";
        let family = family("pinfold_plugin_handovers", about);
        counters(encoder, &family, |metric| {
            self.each(|plugin, name| {
                let left = plugin.snapshot.left.as_ref().map(Left::as_str);
                each(Left::OUTCOMES.iter(), |outcome| {
                    let count = u64::from(left == Some(*outcome));
                    counter(metric, &[("plugin", name), ("outcome", outcome)], count)
                })
            })
        })
    }

    fn about_calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let about = "Calls of the plugin by how they ended";
        counters(encoder, &family("pinfold_plugin_calls", about), |metric| {
            self.each(|plugin, name| {
                let counts = OUTCOMES.iter().zip(plugin.calls.outcomes);
                each(counts, |(outcome, count)| {
                    counter(metric, &[("plugin", name), ("outcome", outcome)], count)
                })
            })
        })?;
        let about =
            "Requests for the plugin that the gateway refused for want of a place, or over a rate";
        let refused = family("pinfold_plugin_requests_refused", about);
        counters(encoder, &refused, |metric| {
            self.each(|plugin, name| {
                let counts = REFUSALS.iter().zip(plugin.calls.refusals);
                each(counts, |(reason, count)| {
                    counter(metric, &[("plugin", name), ("reason", reason)], count)
                })
            })
        })?;
        let about = "Requests under way to the plugin";
        gauges(
            encoder,
            &family("pinfold_plugin_requests_in_flight", about),
            |metric| {
                self.each(|plugin, name| {
                    gauge(metric, &[("plugin", name)], whole(plugin.in_flight))
                })
            },
        )?;
        let about = "How long calls of the plugin took that were answered or failed";
        let took = measured("pinfold_plugin_call_duration", Unit::Seconds, about);
        describe(encoder, &took, MetricType::Histogram, |metric| {
            self.each(|plugin, name| {
                let buckets: Vec<(f64, u64)> = plugin
                    .calls
                    .buckets
                    .iter()
                    // What the encoder writes as +Inf.
                    .map(|(bound, count)| {
                        (bound.map_or(f64::INFINITY, |b| b.as_secs_f64()), *count)
                    })
                    .collect();
                let count = buckets.iter().map(|(_, count)| count).sum();
                let sum = plugin.calls.sum.as_secs_f64();
                let labels: Labels<'_> = &[("plugin", name)];
                metric
                    .encode_family(&labels)?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            })
        })
    }

    fn about_host_calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let about = "Calls of the host by the plugin, by service and what was decided";
        counters(
            encoder,
            &family("pinfold_plugin_host_calls", about),
            |metric| {
                self.each(|plugin, name| {
                    each(SERVICES.iter().zip(plugin.host), |(service, row)| {
                        each(DECISIONS.iter().zip(row), |(decision, count)| {
                            let labels = [
                                ("plugin", name),
                                ("service", service),
                                ("decision", decision.as_str()),
                            ];
                            counter(metric, &labels, count)
                        })
                    })
                })
            },
        )?;
        let about = "Records of the plugin's log over its rate, which were not kept";
        let dropped = family("pinfold_plugin_log_records_dropped", about);
        counters(encoder, &dropped, |metric| {
            self.each(|plugin, name| counter(metric, &[("plugin", name)], plugin.dropped_records))
        })
    }

    fn about_resources(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let about = "Memory that the plugin's jail uses, without what is kept of files and can be taken back";
        let memory = measured("pinfold_plugin_memory", Unit::Bytes, about);
        gauges(encoder, &memory, |metric| {
            self.each(|plugin, name| optional(metric, name, plugin.resources.memory_bytes))
        })?;
        let about = "Memory that the plugin's jail may use";
        let limit = measured("pinfold_plugin_memory_limit", Unit::Bytes, about);
        gauges(encoder, &limit, |metric| {
            self.each(|plugin, name| optional(metric, name, plugin.resources.memory_limit_bytes))
        })?;
        let about = "Processes and threads in the plugin's jail";
        gauges(encoder, &family("pinfold_plugin_tasks", about), |metric| {
            self.each(|plugin, name| optional(metric, name, plugin.resources.tasks))
        })?;
        let about = "Processor time that the plugin's jails used";
        let cpu = measured("pinfold_plugin_cpu", Unit::Seconds, about);
        counters(encoder, &cpu, |metric| {
            self.each(|plugin, name| match plugin.resources.cpu {
                Some(cpu) => counter(metric, &[("plugin", name)], cpu.as_secs_f64()),
                None => Ok(()),
            })
        })
    }

    fn about_controls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let about = "Whether the control of the jail is in force on this machine";
        gauges(
            encoder,
            &family("pinfold_control_in_force", about),
            |metric| {
                each(&self.0.controls, |(control, is_in_force)| {
                    gauge(metric, &[("control", control)], u64::from(*is_in_force))
                })
            },
        )
    }

    fn about_processes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let about = "Memory of the process that is resident";
        let memory = measured("pinfold_process_resident_memory", Unit::Bytes, about);
        gauges(encoder, &memory, |metric| {
            each(&self.0.processes, |(process, usage)| {
                gauge(metric, &[("process", process)], usage.resident_bytes)
            })
        })?;
        let about = "Descriptors that the process has open";
        gauges(
            encoder,
            &family("pinfold_process_open_fds", about),
            |metric| {
                each(&self.0.processes, |(process, usage)| {
                    match usage.open_descriptors {
                        Some(count) => gauge(metric, &[("process", process)], count),
                        None => Ok(()),
                    }
                })
            },
        )?;
        let about = "Processor time that the process used";
        let cpu = measured("pinfold_process_cpu", Unit::Seconds, about);
        counters(encoder, &cpu, |metric| {
            each(&self.0.processes, |(process, usage)| {
                counter(metric, &[("process", process)], usage.cpu_seconds)
            })
        })
    }

    fn each(&self, mut write: impl FnMut(&PluginSample, &str) -> fmt::Result) -> fmt::Result {
        each(&self.0.plugins, |plugin| {
            write(plugin, plugin.snapshot.plugin.as_str())
        })
    }
}

fn each<I: IntoIterator>(items: I, write: impl FnMut(I::Item) -> fmt::Result) -> fmt::Result {
    items.into_iter().try_for_each(write)
}

fn describe(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    kind: MetricType,
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    let Family { name, help, unit } = family;
    write(&mut encoder.encode_descriptor(name, help, unit.as_ref(), kind)?)
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    describe(encoder, family, MetricType::Counter, write)
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    describe(encoder, family, MetricType::Gauge, write)
}

fn counter(
    metric: &mut MetricEncoder<'_>,
    labels: Labels<'_>,
    value: impl EncodeCounterValue,
) -> fmt::Result {
    let mut metric = metric.encode_family(&labels)?;
    metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
}

fn gauge(
    metric: &mut MetricEncoder<'_>,
    labels: Labels<'_>,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    metric.encode_family(&labels)?.encode_gauge(&value)
}

fn optional(metric: &mut MetricEncoder<'_>, plugin: &str, value: Option<u64>) -> fmt::Result {
    match value {
        Some(value) => gauge(metric, &[("plugin", plugin)], value),
        None => Ok(()),
    }
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
