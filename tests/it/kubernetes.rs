//! The manifests for Kubernetes, without a cluster: they keep to the API's schemas, name what is
//! there, and the configuration in them is one that the program takes.

use std::fs::DirEntry;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{root, tempdir};

fn check(folder: &Path) -> Output {
    Command::new("python3")
        .arg(root().join("script/check_kubernetes.py"))
        .arg(root().join("assets/data/lint/kubernetes.json"))
        .arg(folder)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn files(folder: &Path) -> impl Iterator<Item = DirEntry> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().unwrap().is_file())
}

#[test]
fn the_manifests_keep_to_the_schemas_and_name_what_is_there_and_careless_ones_do_not() {
    let sound = root().join("ops/kubernetes");
    for folder in [&sound, &sound.join("load")] {
        let output = check(folder);
        assert!(output.status.success(), "{}", text(&output));
    }
    for (file, from, to, wrong) in [
        (
            "statefulset.yaml",
            "periodSeconds: 2",
            "periodSeconds: two",
            "periodSeconds",
        ),
        (
            "statefulset.yaml",
            "fsGroup: 65532",
            "fsgroup: 65532",
            "fsgroup",
        ),
        (
            "statefulset.yaml",
            "serviceName: avtryck-pods",
            "serviceName: gone",
            "no service gone",
        ),
        (
            "statefulset.yaml",
            "- name: spool\n              mountPath",
            "- name: pool\n              mountPath",
            "no volume pool",
        ),
        (
            "statefulset.yaml",
            "image: avtryck",
            "image: other",
            "has no version",
        ),
        (
            "service.yaml",
            "targetPort: admin",
            "targetPort: gone",
            "no port gone",
        ),
        (
            "disruption.yaml",
            "kind: PodDisruptionBudget",
            "kind: Budget",
            "has no Budget",
        ),
        (
            "kustomization.yaml",
            "- avtryck.toml",
            "- gone.toml",
            "gone.toml does not exist",
        ),
    ] {
        let dir = tempdir();
        for entry in files(&sound) {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let is_it = entry.file_name() == file;
            assert!(!is_it || text.contains(from), "{file}: {from}");
            let text = if is_it {
                text.replacen(from, to, 1)
            } else {
                text
            };
            std::fs::write(dir.path().join(entry.file_name()), text).unwrap();
        }
        let output = check(dir.path());
        let said = text(&output);
        assert!(
            !output.status.success() && said.contains(wrong),
            "{to}: {said}"
        );
    }
}

#[test]
fn the_pods_have_a_configuration_that_is_right_and_no_secret_or_key_of_households() {
    let folder = root().join("ops/kubernetes");
    for (folder, set) in [
        (folder.clone(), "statefulset.yaml"),
        (folder.join("load"), "deployment.yaml"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_avtryck"))
            .args(["check-config", "--config"])
            .arg(folder.join("avtryck.toml"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("AVTRYCK_KAFKA_SASL_PASSWORD", "of-the-secret")
            .output()
            .unwrap();
        // The files of the image are not here, and nothing else is wrong.
        let said = text(&output);
        let mistakes = said.lines().filter(|line| line.contains("would be right"));
        assert_eq!(mistakes.count(), 0, "{said}");
        for entry in files(&folder) {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(
                !text.contains("household.key") && !text.contains("kind: Secret"),
                "{text}"
            );
        }
        let set = std::fs::read_to_string(folder.join(set)).unwrap();
        // A service of that name would give the pods variables that look like keys of the
        // configuration.
        assert!(set.contains("enableServiceLinks: false"));
    }
}
