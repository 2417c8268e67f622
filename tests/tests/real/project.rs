//! A C project made of nothing: the same files every time, enough of them to keep a compiler busy.

use std::{fmt::Write as _, fs, path::Path};

/// Files to compile.
pub(crate) const SOURCES: usize = 40;

/// Headers that the sources share.
const HEADERS: usize = 8;

/// Functions in each source.
const FUNCTIONS: usize = 24;

/// Writes the project into `directory`, and gives the names of its sources, sorted.
pub(crate) fn write(directory: &Path) -> Vec<String> {
    for header in 0..HEADERS {
        fs::write(directory.join(format!("part{header}.h")), self::header(header)).unwrap();
    }
    let names: Vec<String> = (0..SOURCES).map(|number| format!("unit{number:02}.c")).collect();
    for (number, name) in names.iter().enumerate() {
        fs::write(directory.join(name), source(number)).unwrap();
    }
    names
}

fn header(number: usize) -> String {
    format!(
        "#ifndef PART{number}_H\n#define PART{number}_H\n#include <stddef.h>\n\
         struct part{number} {{ int number; size_t weights[{size}]; const char *name; }};\n\
         static inline size_t weight{number}(const struct part{number} *part) {{\n\
         \x20   size_t sum = {number};\n\
         \x20   for (size_t i = 0; i < {size}; i++) sum = sum * 31 + part->weights[i];\n\
         \x20   return sum;\n}}\n#endif\n",
        size = number + 3,
    )
}

fn source(number: usize) -> String {
    let mut text = String::from("#include <stdio.h>\n#include <string.h>\n");
    let parts = [number % HEADERS, (number * 3 + 1) % HEADERS];
    for part in parts {
        writeln!(text, "#include \"part{part}.h\"").unwrap();
    }
    for function in 0..FUNCTIONS {
        let part = parts[function % parts.len()];
        writeln!(
            text,
            "size_t unit{number}_f{function}(struct part{part} *part, const char *text) {{\n\
             \x20   size_t sum = weight{part}(part) + {function};\n\
             \x20   for (const char *c = text; *c; c++) sum = (sum << 5) ^ (size_t)*c ^ {number};\n\
             \x20   if (strlen(text) > {function}) printf(\"unit %d: %zu\\n\", {number}, sum);\n\
             \x20   part->number += (int)(sum % {modulus});\n\
             \x20   return sum;\n}}",
            modulus = number + function + 2,
        )
        .unwrap();
    }
    text
}
