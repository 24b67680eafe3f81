// Thumbnails around the current picture, each with its label.

const AROUND = 12;

export class Strip {
  constructor(list, path, open) {
    this.list = list;
    this.path = path;
    this.open = open;
    list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.open(button.dataset.file);
    });
  }

  address(file, width) {
    return `${this.path}/picture.jpg?${new URLSearchParams({ file, width })}`;
  }

  show(current, files, rows) {
    const place = Math.max(files.indexOf(current), 0);
    const from = Math.max(0, Math.min(place - AROUND / 2, files.length - AROUND));
    const shown = files.slice(from, from + AROUND);
    const known = new Map([...this.list.children].map((item) => [item.firstChild.dataset.file, item]));
    this.list.replaceChildren(...shown.map((file) => known.get(file) ?? this.item(file)));
    for (const file of shown) this.mark(rows.get(file));
    for (const item of this.list.children) {
      const button = item.firstChild;
      if (button.dataset.file === current) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    const now = this.list.querySelector("[aria-current]");
    if (now) this.list.scrollTo({ left: now.offsetLeft - (this.list.clientWidth - now.clientWidth) / 2 });
  }

  item(file) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.file = file;
    button.ariaLabel = file;
    const image = new Image();
    image.alt = "";
    image.loading = "lazy";
    image.src = this.address(file, 320);
    button.append(image);
    item.append(button);
    return item;
  }

  mark(row) {
    const button = [...this.list.querySelectorAll("button")].find((each) => each.dataset.file === row.file);
    if (!button) return;
    button.dataset.state = row.present === false ? "none" : (row.label ?? "open");
  }
}
