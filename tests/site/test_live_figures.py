"""Live figures in Chromium, each alone on a page opened as a file: they show what JAX computes, and ask for nothing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genai_course import live, nets
from genai_course.models.diffusion import Diffusion

K = jax.random.split(jax.random.key(0), 4)
TEXTS = {"caption": "A figure for a test.", "alt": "A picture of a test figure"}
DECODER = nets.MLP((2, 32, 64), key=K[0], out_shape=(8, 8))
GENERATOR = nets.MLP((4 + 3, 32, 64), key=K[1], out_shape=(8, 8))
MODEL = Diffusion(nets.ResidualMLP(16, key=K[2], width=32, depth=2), (16,))
LANGUAGE = nets.Transformer(5, 12, key=K[3], width=16, heads=2)
POINTS, CHOICES = np.array([[0.5, 1.0], [-1.0, 0.2]]), {"0": jnp.eye(3)[0], "1": jnp.eye(3)[1]}
STEPS, TOKENS = 6, list("abcd\n")


def decode(z):
    return jax.nn.sigmoid(DECODER(z))


def generate(z, label):
    return jax.nn.sigmoid(GENERATOR(jnp.concatenate([z, label])))


def step(x, i, noise):
    x = x - 0.1 * MODEL.net(x, 1 - i / STEPS) + 0.01 * noise
    return x, jax.nn.sigmoid(x)


FIGURES = {
    "latent": lambda: live.latent(decode, POINTS, np.array([0, 1]), shape=(8, 8), **TEXTS),
    "sliders": lambda: live.sliders(generate, 4, shape=(8, 8), choices=CHOICES, **TEXTS),
    "sampler": lambda: live.sampler(step, 16, STEPS, shape=(4, 4), delay=5, **TEXTS),
    "prompt": lambda: live.prompt(LANGUAGE, TOKENS, context=12, start="abba", length=30, **TEXTS),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Each figure as the notebook's HTML shows it."""
    folder, files = tmp_path_factory.mktemp("live"), {}
    for name, make in FIGURES.items():
        files[name] = folder / f"{name}.html"
        bundle = make()._repr_mimebundle_()
        files[name].write_text(f"<!DOCTYPE html><title>t</title>{bundle['text/html']}", encoding="utf-8")
    return files


@pytest.fixture
def open_figure(checks, pages):
    """Open a figure; return the frame and a list of what went wrong."""
    contexts = []

    def open_(name, **options):
        contexts.append(context := checks.browser.new_context(viewport={"width": 900, "height": 700}, **options))
        page, found = context.new_page(), []
        page.on("console", lambda m: found.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on(
            "request", lambda r: found.append(r.url) if not r.url.startswith(("file:", "data:", "about:")) else None
        )
        page.goto(pages[name].as_uri())
        frame = page.query_selector("iframe").content_frame()
        frame.wait_for_selector("body[data-ready], body[data-failed]", state="attached", timeout=20_000)
        assert frame.get_attribute("body", "data-failed") is None
        return page, frame, found

    yield open_
    for context in contexts:
        context.close()


def output(frame):
    return json.loads(frame.get_attribute("#app", "data-output"))


def pixels(frame):
    """Gray values of the picture, from 0 to 255."""
    code = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 0)"
    return np.array(frame.eval_on_selector("canvas.picture", code))


def assert_drawn(frame, ink):
    assert np.abs(pixels(frame) - 255 * (1 - np.ravel(ink))).max() <= 2


@pytest.mark.parametrize("name", FIGURES)
def test_it_checks_itself_and_asks_for_nothing(open_figure, name):
    _, frame, found = open_figure(name)
    assert not found
    assert float(frame.get_attribute("body", "data-error")) < 2e-3
    assert frame.is_visible("#app")
    assert not frame.is_visible("#poster")


@pytest.mark.parametrize("name", FIGURES)
def test_without_javascript_a_picture_and_the_caption_remain(checks, pages, tmp_path, name):
    """The browser's switch does not reach a sandboxed frame; a sandbox without scripts is the same for it."""
    text = pages[name].read_text(encoding="utf-8")
    assert text.count('sandbox="allow-scripts"') == 1
    (tmp_path / "still.html").write_text(text.replace('sandbox="allow-scripts"', "sandbox"), encoding="utf-8")
    page = checks.browser.new_page()
    page.goto((tmp_path / "still.html").as_uri())
    frame = page.query_selector("iframe").content_frame()
    frame.wait_for_selector("#poster", state="visible")
    assert not frame.is_visible("#app")
    assert page.text_content("figcaption") == TEXTS["caption"]
    page.close()


@pytest.mark.parametrize("name", FIGURES)
def test_axe_finds_nothing(open_figure, checks, name):
    _, frame, _ = open_figure(name)
    frame.evaluate(checks.axe)
    found = frame.evaluate("axe.run(document.body, {preload: false}).then(r => r.violations.map(v => v.id))")
    assert not set(found) - {"region", "landmark-one-main", "page-has-heading-one"}  # it is a part of a page


def test_a_point_of_the_plane_is_dragged_and_moved_by_keys(open_figure):
    page, frame, _ = open_figure("latent")
    assert_drawn(frame, decode(jnp.zeros(2)))
    box = frame.query_selector("#map").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25)
    page.mouse.up()
    code = output(frame)["code"]
    np.testing.assert_allclose(code, [1.5, 1.5], atol=0.05)
    assert_drawn(frame, decode(jnp.array(code)))
    frame.focus("#map")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    moved = output(frame)["code"]
    np.testing.assert_allclose(np.subtract(moved, code), [-0.1, 0.1], atol=1e-5)
    assert_drawn(frame, decode(jnp.array(moved)))


def test_touch_moves_the_point(open_figure):
    page, frame, _ = open_figure("latent", has_touch=True)
    box = frame.query_selector("#map").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    np.testing.assert_allclose(output(frame)["code"], [-1.5, 0.0], atol=0.05)


def test_sliders_change_the_picture(open_figure):
    page, frame, _ = open_figure("sliders")
    frame.focus("input[type=range]")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    state = output(frame)
    assert_drawn(frame, generate(jnp.array(state["z"]), jnp.eye(3)[0]))
    frame.select_option("select", "1")
    assert_drawn(frame, generate(jnp.array(state["z"]), jnp.eye(3)[1]))
    frame.click("text=New draw")
    assert output(frame)["z"] != state["z"]


def test_the_sampler_steps_plays_and_starts_again(open_figure):
    _, frame, _ = open_figure("sampler")
    before = output(frame)
    assert before["i"] == 1
    assert_drawn(frame, jax.nn.sigmoid(jnp.array(before["x"])))
    frame.click("text=One step")
    assert output(frame)["i"] == 2
    frame.click("text=Play")
    frame.wait_for_function(f"JSON.parse(document.getElementById('app').dataset.output).i === {STEPS}")
    assert frame.is_disabled("text=One step")
    frame.click("text=Other noise")
    assert output(frame)["seed"] == before["seed"] + 1
    assert not np.allclose(output(frame)["x"], before["x"])


def test_with_reduced_motion_play_shows_the_result_at_once(checks, tmp_path):
    (tmp_path / "page.html").write_text(FIGURES["sampler"]().page(), encoding="utf-8")
    page = checks.browser.new_page(reduced_motion="reduce")
    page.goto((tmp_path / "page.html").as_uri())
    page.click("text=Play")
    assert output(page)["i"] == STEPS
    page.close()


def test_the_prompt_is_continued(open_figure):
    _, frame, _ = open_figure("prompt")
    frame.fill("input[type=text]", "dad?")
    frame.eval_on_selector("[aria-label=Temperature]", "s => { s.value = 0; s.dispatchEvent(new Event('input')); }")
    frame.click("text=Go on")
    frame.wait_for_function("JSON.parse(document.getElementById('app').dataset.output ?? '{}').ids?.length === 33")
    ids = output(frame)["ids"]
    assert ids[:3] == [3, 0, 3]  # what no token spells is left out
    for i in range(3, 33):  # at temperature 0: the likeliest token, given the last twelve
        recent = jnp.array(ids[max(0, i - 12) : i])
        padded = jnp.pad(recent, (0, 12 - len(recent)))
        assert ids[i] == int(LANGUAGE(padded)[len(recent) - 1].argmax())
    assert frame.text_content(".text") == "dad?" + "".join(TOKENS[i] for i in ids[3:])


def test_a_wrong_model_keeps_its_picture(checks, tmp_path):
    figure = FIGURES["latent"]()
    figure.reference[0]["outputs"][0][5] += 0.1
    (tmp_path / "wrong.html").write_text(figure.page(), encoding="utf-8")
    page = checks.browser.new_page()
    page.goto((tmp_path / "wrong.html").as_uri())
    assert "differs from JAX by 0.0999" in page.get_attribute("body", "data-failed")
    assert page.is_visible("#poster")
    assert not page.is_visible("#app")
    page.close()


@pytest.mark.parametrize("width", [390, 700, 1280])
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off(checks, pages, name, width):
    page = checks.browser.new_page(viewport={"width": width, "height": 900})
    page.goto(pages[name].as_uri())
    frame = page.query_selector("iframe").content_frame()
    frame.wait_for_selector("body[data-ready]", state="attached")
    sizes = frame.evaluate("(d => [d.scrollWidth, innerWidth, d.scrollHeight, innerHeight])(document.documentElement)")
    page.close()
    assert sizes[0] <= sizes[1]
    assert sizes[2] <= sizes[3]
