// Answers by repeating the question: put your own assistant into `answer`. With a token, your own server fetches
// the ticket (POST /v1/tickets) and sets the element's attribute; the token itself never reaches the page.
const avatar = document.querySelector("nerf-lipsync-avatar");
const form = document.querySelector("form");
const status = document.querySelector("p");
const answer = async (words) => `You asked: ${words} I can say what you give me to say.`;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  avatar.interrupt(); // a new question cuts the answer to the last one
  const spoken = await avatar.speak(await answer(form.elements.words.value)).catch((error) => ({ error }));
  status.textContent = spoken.error?.message ?? `${spoken.interrupted ? "cut after" : "said in"} ${spoken.played_ms} ms`;
});
form.querySelector("[type=button]").addEventListener("click", () => avatar.interrupt());
