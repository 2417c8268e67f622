//! The directory for bodies in flight, where one was chosen.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use kura_core::digest::Hasher;
use kura_env::DiskPath;
use kura_host::Elsewhere;
use kura_node::store::STAGING_ELSEWHERE;

use crate::settings::Settings;

/// Hexadecimal digits of a data directory's digest in the name of its staging directory.
const NAME_DIGITS: usize = 16;

/// Why there is no such directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error(
        "the directory {} for bodies in flight cannot be made; make it for this user, or choose \
         another",
        path.display()
    )]
    Missing { path: PathBuf, source: io::Error },
    #[error(
        "staging.dir {:?} ({origin}) lies on another file system (device {device}) than the data \
         directory {:?} (device {data_device}), so that large bodies would be copied to their \
         place; choose a directory on the file system of the data, or set \
         staging.other_filesystem = true",
        path.display().to_string(),
        data.display().to_string()
    )]
    OtherFileSystem {
        path: PathBuf,
        origin: String,
        device: String,
        data: PathBuf,
        data_device: String,
    },
}

/// Makes the directory that was chosen for bodies in flight, if one was. The data directory must be
/// there.
pub(crate) fn prepare(settings: &Settings) -> Result<Option<Elsewhere>, Unfit> {
    let (Some(chosen), data) = (settings.staging_dir(), settings.data_dir()) else {
        return Ok(None);
    };
    let missing = |source| Unfit::Missing { path: chosen.to_owned(), source };
    let name = name_for(&fs::canonicalize(data).map_err(missing)?);
    let path = chosen.join(name);
    fs::create_dir_all(&path).map_err(missing)?;
    let device_of = |path: &Path| fs::metadata(path).map(|it| it.dev());
    let (device, data_device) =
        (device_of(&path).map_err(missing)?, device_of(data).map_err(missing)?);
    if device != data_device && !settings.may_stage_on_other_file_system() {
        // Nothing is left behind where nothing will be kept.
        fs::remove_dir(&path).ok();
        return Err(Unfit::OtherFileSystem {
            path: chosen.to_owned(),
            origin: settings.staging_dir_origin().map(ToString::to_string).unwrap_or_default(),
            device: shown(device),
            data: data.to_owned(),
            data_device: shown(data_device),
        });
    }
    Ok(Some(Elsewhere { dir: DiskPath::new(STAGING_ELSEWHERE), path }))
}

/// Where bodies in flight lie, if that was chosen; makes nothing, so that it may not be there.
pub(crate) fn existing(settings: &Settings) -> Result<Option<Elsewhere>, Unfit> {
    let (Some(chosen), data) = (settings.staging_dir(), settings.data_dir()) else {
        return Ok(None);
    };
    let missing = |source| Unfit::Missing { path: chosen.to_owned(), source };
    let path = chosen.join(name_for(&fs::canonicalize(data).map_err(missing)?));
    Ok(Some(Elsewhere { dir: DiskPath::new(STAGING_ELSEWHERE), path }))
}

/// The name of the staging directory of a data directory: the same at every start, and another for
/// every other data directory.
fn name_for(data: &Path) -> String {
    let mut hasher = Hasher::default();
    hasher.update(data.as_os_str().as_encoded_bytes());
    let digest = hasher.finish().to_string();
    format!("kura-{}", &digest[..NAME_DIGITS])
}

fn shown(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_name_and_it_is_its_own() {
        let name = name_for(Path::new("/data"));
        assert_eq!(name, name_for(Path::new("/data")));
        assert_ne!(name, name_for(Path::new("/data2")));
        assert_eq!(name.len(), "kura-".len() + NAME_DIGITS);
    }
}
