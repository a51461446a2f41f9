"""English sentences written for this project: every phoneme often, and richly those that GRID never says."""

from __future__ import annotations

from typing import Final

__all__ = ["ENGLISH_SENTENCES"]

ENGLISH_SENTENCES: Final = tuple(
    """
The boy enjoys the noise of the royal parade.
She should push the cushion under her foot.
A good cook would look at the sugar first.
The usual pleasure of a beige garage is hard to measure.
Her first words hurt the girl from Perth.
He hopes his horse is happy in the high hills.
Long songs bring young singers strong lungs.
Fresh fish and shellfish are sold in the shop by the ocean.
The vision of treasure led to a casual decision.
Put the wooden hook where the bull stood.
Avoid the boiling oil, it could spoil your voice.
Birds were chirping early on Thursday morning.
Who holds the whole house in his hands?
Nothing is wrong with the king's new ring.
The captain wished to wash the ship before the election.
Leisure on the occasion of a collision is unusual.
Joy pointed at the coin in the moist soil.
The nurse turned the purple curtain for the third person.
How heavy is the hammer behind Harry's helmet?
Sharing a hot dish is a special tradition.
I took the book from the bush and shook it.
The wolf pulled the wool over the butcher's foot.
Roy's loyal employees made a poor choice.
The earth's surface was burning at the church.
Hank has half a hundred hats at home.
Singing and dancing all evening made them hungry.
The machine in the mission station makes sharp shadows.
Persia and Asia meet in this version of the map.
A mirage of rouge on the television confused us.
Please join the noisy crowd at Detroit airport.
Could you pull the hood over the wood?
The thirsty workers deserve a longer journey.
Here comes the whole herd, hurry ahead.
I am thinking of bringing my angry uncle along.
Shirley chose a short shirt and shiny shoes.
The explosion caused a seizure of precious treasure.
Oysters and soy beans spoil in the moisture.
Would the woman put her foot in the brook?
The circus girl learned to swerve and turn.
Perhaps he had to rehearse behind the hall.
The strong swimmer swung along the long bank.
She wishes for sugar, mushrooms and a delicious radish.
Measure the usual closure of the garage door.
The annoying toys were destroyed by the boys.
Good wool looks full when you push it.
Bert heard the world turn, or so he learned.
My house has a huge hall and a humble kitchen.
Among the things hanging there was a single finger ring.
Fashion is a passion that should not be rushed.
It is a pleasure to envision Asian leisure.
Bob and Pam bumped the baby's pram.
Mum made pumpkin pie for my puppy.
Maybe people believe the problem is simple.
The back of my cab is packed with maps.
Five very fine vans drove over the river.
Father thought that both brothers breathed with their mouths.
These three thieves threw the other things there.
Teddy told Dad to tie two tight ties.
Dan needed ten new tents at noon.
Six sisters sat silently in the sunny city.
Zoe's zebras dozed as the bees buzzed.
Charles watched each child munch a cheap peach.
George and Jane enjoyed orange juice in July.
Kate can keep a quick black cat.
Greg gave eggs to the great big dog.
Little Leila will follow the yellow light.
Rare red roses were growing around the river.
We went west with one wet wagon.
Yes, you used your yellow yacht a year ago.
He sees that these green leaves mean peace.
This big pig is in his little kitchen.
Ten red men went to bed at seven.
That man's black hat has a bad patch.
Father's large car is parked far from the bar.
Mother loves the summer sun and nothing else.
Four more horses walked across the warm lawn.
Two blue shoes flew through the room too soon.
They may take the late train today.
Why does the sky shine bright at night?
No one knows how cold the old stone road goes.
How now, brown cow, out and about in town?
A banana and a panda are on the sofa.
What time is it, and where are we going?
Thank you very much for coming on such short notice.
Can you hear me now, or shall I turn it up?
I would like a cup of coffee and some toast.
Tell me about your family and your work.
The weather will be cloudy with some rain by evening.
Please wait a moment while I look that up.
Your order has been shipped and should arrive on Thursday.
I am sorry, I did not understand the question.
Turn left at the church and then go straight ahead.
The meeting begins at half past eight.
My phone number ends in four seven oh nine.
We usually finish our work before five.
Nobody knew what had happened to the old bridge.
It was the best day of the whole year.
Open the window, please, it is getting hot in here.
The train to Washington leaves from platform three.
There is nothing more to say about that.
Have you ever been to the mountains in winter?
Let us begin with a short introduction.
Could somebody help me carry this bookshelf?
The doctor asked her to breathe in and hold it.
Children often learn languages by singing.
He put on his coat, took his hat and went out.
All the lights went off at the same time.
Is this the right way to the museum?
In my opinion the second version is better.
Every morning she runs along the river.
You should have told me that you were coming.
We could hear thunder in the distance.
The soup is too hot, but the bread is good.
I have never seen such a beautiful garden.
Remember to save your work before you leave.
The price of oil went up again this month.
Do not touch that button, whatever happens.
The answer is somewhere in the middle of the book.
After lunch they played football in the park.
A loud voice came from behind the curtain.
Most people prefer to pay by card.
She poured the milk and stirred the tea.
The dog barked and the cat jumped off the chair.
It takes about an hour to get there by bus.
What a pleasant surprise to meet you here!
The bookcase in the corner belonged to my grandfather.
Nine nights later the wind began to change.
They built a wall, a tower and a gate.
The new teacher speaks slowly and clearly.
Would you rather watch a film or read?
His brother works as a cook in Hong Kong.
The moon rose over the quiet village.
Fifty thousand people cheered for the home team.
Mix the flour, the butter and the eggs.
Which of these pictures do you like most?
I think that the other path is smoother.
A small fire was burning in the fireplace.
Push the chair under the table and join us.
The judge should not have rushed the decision.
Her voice is the first thing people remember.
Look, the fishing boats are coming into the harbour.
Good things happen to those who work hard.
The royal family enjoyed a usual Sunday.
Point the camera at the noisy bird over there.
Sugar, honey and herbs go into the cooking pot.
A young journalist was searching for the truth.
The cushion on the beige sofa looks worn.
He could not hide his pleasure at the choice.
Thirty-three girls stood in the church hall.
Bring the washing in before the shower begins.
""".strip().splitlines()
)
