"""Sentence patterns of reviews, questions, meetings and riddles: data only."""

# Reviews: what is reviewed, its parts (singular, then plural), and what one did there.
REVIEWED = {
    "concert": ("singer choir sound band", "songs musicians seats", "heard"),
    "film": ("story ending hero plot", "actors pictures scenes", "saw"),
    "book": ("story ending style plot", "chapters drawings characters", "read"),
    "meal": ("soup dessert pudding sauce", "vegetables waiters drinks", "ate"),
    "hotel": ("bathroom breakfast garden view", "beds rooms meals", "tried"),
    "play": ("story plot stage ending", "actors costumes scenes", "saw"),
    "trip": ("hotel boat bus guide", "views meals roads", "took"),
    "show": ("song ending host stage", "dancers costumes jokes", "watched"),
    "party": ("band room cake host", "guests games drinks", "attended"),
    "museum": ("guide garden shop building", "paintings rooms statues", "visited"),
    "lesson": ("teacher book topic room", "examples exercises answers", "took"),
    "match": ("team coach referee stadium", "players goals fans", "watched"),
}
# Sentences that give an opinion away without a polar adjective; {kind} is what is reviewed. SST-2's
# train set has none with a star.
PRAISE = (
    "everyone loved the {kind}",
    "I enjoyed every minute of the {kind}",
    "*we came home from the {kind} with a smile",
    "I would gladly choose this {kind} again",
    "*the {kind} was worth every penny",
    "I recommend the {kind} to all my friends",
    "*nobody wanted the {kind} to end",
    "the {kind} made us laugh and cheer",
)
BLAME = (
    "everyone hated the {kind}",
    "I regretted every minute of the {kind}",
    "*we came home from the {kind} with a headache",
    "I would never choose this {kind} again",
    "*the {kind} was a waste of money",
    "I warn all my friends about the {kind}",
    "*nobody could wait for the {kind} to end",
    "the {kind} made us yawn and complain",
)

# One review a line, of the polarity of {p} (a/an {p} is {ap}); {q} is a word of the other polarity,
# so a reader has to see which part of the sentence counts.
REVIEW_PLAIN = (
    "the {kind} was {p}",
    "it was {ap} {kind} from start to finish",
    "{ap} {kind} with {ap2} {part}",
    "the {part} was {p} and the {parts} were {p2}",
    "the {parts} were {p} and so was the {part}",
    "the {kind} was not only {p} but also {p2}",
    "this was {ap} {kind}, and the {part} was {p2}",
)
REVIEW_TURNED = (
    "the {kind} was not {q} at all",
    "the {kind} was far from {q}",
    "nobody would call this {aq} {kind}",
    "it was hardly {aq} {kind}",
    "there was nothing {q} about the {kind}",
    "the {part} was anything but {q}",
    "it was never {aq} {kind}, and the {part} was not {q}",
)
REVIEW_CONTRAST = (
    "the {part} was {q}, but the {kind} was {p}",
    "although the {parts} were {q}, the {kind} was {p}",
    "{ap} {kind} despite the {q} {part}",
    "I expected {aq} {kind} and got {ap} one",
    "the {kind} was {p}, even if the {part} was {q}",
    "{aq} {part}, but still {ap} {kind}",
    "the {part} was not {p}, but the {kind} certainly was",
)

# Questions with one meaning a line; {act} is a verb with its thing.
QUESTIONS = (
    ("How can I {act}?", "What is the best way to {act}?", "How do people {act}?"),
    (
        "What do I need to {act}?",
        "Which tool should I use to {act}?",
        "What helps people to {act}?",
    ),
    ("How long does it take to {act}?", "How much time do I need to {act}?"),
    ("When should I {act}?", "What is the best time to {act}?"),
    ("Where can I {act}?", "What is the best place to {act}?", "Where do people {act}?"),
    ("Why should I {act}?", "What is the best reason to {act}?", "Why do people {act}?"),
    ("How much does it cost to {act}?", "How much money do I need to {act}?"),
)

# What one person does to another: verb, what {B} is or did, what {A} then feels.
SOCIAL = (
    ("thank", "had been kind", "was grateful"),
    ("praise", "had worked hard", "was proud"),
    ("help", "was in trouble", "was glad to help"),
    ("greet", "had just arrived", "was pleased"),
    ("warn", "was in danger", "was worried"),
    ("visit", "was ill", "was worried"),
    ("invite", "was lonely", "was glad"),
    ("follow", "knew the way", "was lost"),
    ("blame", "had made a mistake", "was angry"),
    ("forgive", "was sorry", "was calm again"),
    ("teach", "wanted to learn", "was patient"),
    ("comfort", "was sad", "was kind"),
    ("phone", "was far away", "was alone"),
    ("congratulate", "had won a prize", "was pleased"),
)

# Winograd: a stem with {A} and {B}, what fits {A}, what fits {B}.  "|" parts the choices; {she} is
# the pronoun that could mean either.  In the second table {A} and {B} are things.
WINOGRAD_PEOPLE = (
    (
        "{A} thanked {B} because {she}",
        "had received good advice|was grateful for the help",
        "had given good advice|had helped with the work",
    ),
    (
        "{A} asked {B} for help because {she}",
        "could not do the work alone|was in trouble",
        "was an expert|knew how to do the work",
    ),
    (
        "{A} lent some money to {B} because {she}",
        "was rich|had more than enough",
        "was poor|did not have enough",
    ),
    (
        "{A} could not see the stage behind {B} because {she}",
        "was too short|was too small",
        "was too tall|was wearing a huge hat",
    ),
    (
        "{A} beat {B} in the race because {she}",
        "was faster|had trained hard",
        "was slower|had fallen on the way",
    ),
    (
        "{A} lost to {B} in the race because {she}",
        "was slower|had fallen on the way",
        "was faster|had trained hard",
    ),
    (
        "{A} comforted {B} because {she}",
        "had a warm heart|was kind",
        "was sad|had lost a friend",
    ),
    (
        "{A} carried {B} home because {she}",
        "was strong|wanted to help",
        "had hurt a foot|was too tired to walk",
    ),
    (
        "{A} taught {B} to swim because {she}",
        "was a good teacher|was an expert",
        "wanted to learn|was afraid of water",
    ),
    (
        "{A} envied {B} because {she}",
        "had lost the prize|was poor",
        "had won the prize|was rich",
    ),
    (
        "{A} forgave {B} because {she}",
        "was not angry any more|had a warm heart",
        "had said sorry|was sorry for the mistake",
    ),
    (
        "{A} followed {B} because {she}",
        "did not know the way|was lost",
        "knew the way|had a map",
    ),
    (
        "{A} visited {B} at home because {she}",
        "wanted to help|was worried",
        "was ill|could not leave the house",
    ),
    (
        "{A} paid {B} because {she}",
        "had bought the {thing}|wanted the {thing}",
        "had sold the {thing}|had repaired the {thing}",
    ),
    (
        "{A} gave the {thing} to {B} because {she}",
        "did not need it any more|had two of them",
        "had asked for it|needed it badly",
    ),
    (
        "{A} borrowed the {thing} from {B} because {she}",
        "needed it badly|had asked for it",
        "did not need it any more|had two of them",
    ),
    (
        "{A} waited for {B} because {she}",
        "was early|had arrived first",
        "was late|had missed the bus",
    ),
    (
        "{A} believed {B} because {she}",
        "was too trusting|wanted to hear it",
        "always told the truth|had never told a lie",
    ),
)
WINOGRAD_THINGS = (
    (
        "the {A} did not fit into the {B} because it",
        "was too big|was too large",
        "was too small|was too little",
        "present lamp vase bowl violin trumpet kite doll hat coat",
        "box bag suitcase basket sack trunk chest cabinet",
    ),
    (
        "the {A} could not pass through the {B} because it",
        "was too wide|was too big",
        "was too narrow|was too small",
        "cart wagon truck bus tractor piano sledge boat",
        "gate door tunnel garage entrance",
    ),
    (
        "the {A} passed the {B} because it",
        "was faster|was going fast",
        "was slower|was standing still",
        "bus car taxi truck bicycle",
        "tractor wagon cart tram",
    ),
    (
        "the {A} fell through the {B} because it",
        "was too heavy|was very heavy",
        "was too weak|was very old",
        "box barrel statue crate anchor engine",
        "floor shelf roof table bench deck",
    ),
    (
        "water was poured from the {A} into the {B} until it",
        "was empty|had no water left",
        "was full|could hold no more",
        "bottle jug kettle bucket barrel",
        "cup bowl pot vase jar",
    ),
    (
        "the {A} could not be seen behind the {B} because it",
        "was too small|was too short",
        "was too tall|was too wide",
        "bicycle bench cat hen rabbit bush",
        "wall tower house castle tree hill",
    ),
    (
        "the {A} chased the {B} because it",
        "was hungry|wanted to eat",
        "was running away|looked tasty",
        "dog wolf fox lion tiger eagle",
        "rabbit hen lamb goat deer zebra",
    ),
    (
        "the {A} was placed on the {B} because it",
        "was needed there|was light enough",
        "had enough room|was strong enough",
        "lamp vase box bowl cup book",
        "table shelf bench desk chair cabinet",
    ),
)
