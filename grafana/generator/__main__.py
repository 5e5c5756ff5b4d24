"""Writes the dashboards: ``python -m grafana.generator``. A test compares the committed files with this output."""

from grafana.generator.dashboards import FOLDER, files

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, "utf-8")
