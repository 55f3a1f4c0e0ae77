"""The words of the tiny text and tasks: data only.

Strings of words parted by blanks, so that a new word is one word more to type. Nouns stand in the
singular, verbs in the base form, adjectives in the positive; the generator inflects them.
"""

# One frame a line: agents : verbs (synonyms here) : things : tool : why > what came of it.
# Every agent can do every verb to every thing; "with a <tool>", "because it was <why>" and
# "soon it was <what came of it>" must read well for all of them.  A place that starts with "@"
# takes "at", any other "in".
THEMES = {
    "kitchen": (
        "kitchen bakery restaurant",
        """
        cook chef : slice cut chop : bread cheese tomato onion carrot : knife :
        cook chef : stir mix : soup sauce stew batter : spoon : thick > smooth
        baker : bake make prepare : cake pie bread biscuit : : > sweet golden delicious
        cook waiter : wash clean rinse : plate bowl pan cup : sponge : dirty greasy > clean spotless
        chef cook : taste try : sauce soup stew : spoon : new > delicious
        baker : cover wrap : dough pie cake loaf : cloth : warm fresh > safe
        cook baker : heat warm : oven pan soup kettle : : cold cool > hot warm
        waiter : serve : soup pie dessert tea : tray : ready > gone
        """,
    ),
    "farm": (
        "barn stable field",
        """
        farmer : feed : cow horse pig sheep goat hen : : hungry starving > full content
        farmer shepherd : lead guide : sheep goat cow donkey : rope : lost > safe
        farmer : milk : cow goat : : > calm
        shepherd : guard protect : sheep goat lamb : : young weak > safe
        farmer : repair fix mend : fence gate tractor cart : hammer : broken damaged > strong
        farmer : load fill : cart truck wagon : shovel : empty > full
        rider farmer : brush groom : horse pony donkey : comb : muddy dirty > clean shiny
        farmer : gather collect : hay corn wheat egg : basket : dry ripe > safe
        """,
    ),
    "school": (
        "classroom hall @school",
        """
        teacher : explain describe : lesson poem rule story : picture : difficult hard > clear
        teacher pupil : clean wipe : board desk table : cloth : dusty dirty > clean
        pupil student : write : letter poem story sentence : pencil : short easy > ready
        pupil student : draw sketch : map picture flower castle : pencil : pretty > ready
        student teacher : read study : book poem story map : : interesting famous > clear
        pupil student : solve : puzzle exercise problem : : easy simple > done
        teacher : close shut : door window book : :
        teacher : open : door window box book : :
        teacher : teach instruct : class pupil student : : eager > clever
        """,
    ),
    "sea": (
        "harbour cabin bay",
        """
        sailor captain : steer guide : boat ship ferry canoe : : > safe
        fisherman : catch : salmon cod tuna trout crab : net :
        sailor fisherman : tie fasten : boat canoe sail raft : rope : loose > safe secure
        captain sailor : watch observe : ship whale island dolphin : telescope : beautiful near >
        sailor : paint : boat deck cabin mast : brush : old grey > bright white
        diver : find discover : shell pearl coin anchor : lamp : bright >
        fisherman : pull drag : net boat anchor raft : rope :
        sailor : scrub clean wash : deck cabin boat : mop : dirty muddy > clean spotless
        """,
    ),
    "hospital": (
        "hospital clinic ward",
        """
        doctor nurse : examine check : patient throat knee foot : lamp : sore weak > better
        nurse : wash clean : wound bed floor tray : cloth : dirty > clean
        doctor nurse : treat cure : patient child visitor : : ill sick > healthy well
        nurse : carry bring : medicine tray blanket pillow : :
        nurse : cover wrap : patient wound foot : blanket : cold > warm
        patient : swallow take : pill medicine tablet : spoon : > gone
        doctor : write : letter note report : pen : > ready
        nurse : comfort calm : patient child baby : : sad afraid > calm happy
        """,
    ),
    "market": (
        "market shop square",
        """
        seller merchant : sell : apple pear plum basket carpet vase : : > gone
        customer : buy purchase : apple pear plum lamp basket hat : coin : cheap lovely >
        seller : weigh : apple cheese plum potato : scale : heavy >
        customer : choose pick select : melon pear hat lamp present : : cheap lovely >
        porter : carry : box sack crate barrel : rope :
        merchant : count : coin box sack carpet : :
        seller : wrap pack : cheese cup present vase : cloth : > safe ready
        customer : fill : basket bag sack : : empty > full heavy
        """,
    ),
    "music": (
        "studio hall @concert",
        """
        musician : play : guitar violin piano flute trumpet : :
        singer : sing perform : song ballad tune : microphone : famous lovely >
        musician : tune adjust : guitar violin piano harp : : > ready
        composer : write compose : song tune waltz symphony : pen : > famous
        drummer : hit strike beat : drum gong bell : stick : > loud
        conductor : lead direct : choir orchestra band : baton : large > ready
        musician singer : record : song ballad tune album : microphone : new > famous
        musician : repair fix mend : guitar violin drum harp : glue : broken damaged > ready
        """,
    ),
    "sport": (
        "stadium gym park",
        """
        player : kick : ball hoop : foot :
        coach : train teach : team player runner swimmer : whistle : young weak > strong fast
        player : throw toss : ball hoop stick : :
        player goalkeeper : catch grab : ball stick hat : glove :
        runner swimmer : win : race prize medal match : :
        referee coach : stop halt : game match : whistle : rough > over
        coach : praise encourage : player runner team : : tired > proud
        swimmer : cross : pool lake river : : calm narrow >
        """,
    ),
    "garden": (
        "garden greenhouse yard",
        """
        gardener : water : rose tulip daisy bush tree : hose : dry thirsty > fresh green
        gardener : plant : rose tulip bush bean carrot : spade : young > green
        gardener : dig : hole ditch pond : spade : > deep
        gardener : cut trim : grass hedge bush branch : saw : long wild > short neat
        gardener : pick gather collect : apple pear plum berry cherry : ladder : ripe sweet > gone
        neighbour : climb : tree wall ladder fence : rope : low >
        neighbour gardener : admire : rose tulip lily daisy : : beautiful lovely pretty >
        gardener : sweep clean : path yard floor : broom : dusty dirty > clean tidy
        """,
    ),
    "travel": (
        "@station @airport hotel",
        """
        traveller tourist : buy purchase : ticket map guidebook : coin : cheap useful >
        driver : drive steer : bus taxi truck car : : > gone
        porter : carry : suitcase bag trunk parcel : :
        tourist : photograph : castle tower bridge statue : camera : famous beautiful old >
        pilot : fly : plane helicopter jet : : > safe
        traveller : pack fill : suitcase bag trunk : : empty > full ready heavy
        inspector : check inspect : ticket passport suitcase : lamp : > ready
        traveller tourist : lose : ticket passport camera hat : : small > gone
        """,
    ),
    "library": (
        "library museum gallery",
        """
        librarian : sort arrange : book newspaper card magazine : : new > neat tidy
        reader : borrow : book novel magazine : card : interesting famous >
        reader : return : book novel magazine : : late >
        librarian : dust clean : shelf lamp desk statue : cloth : dusty > clean shiny
        author : write : novel story poem diary : pen : > famous
        visitor : admire : painting statue vase mask : : beautiful rare lovely >
        guard : lock : door gate cabinet chest : key : > safe
        guard : open unlock : door gate cabinet chest : key :
        """,
    ),
    "workshop": (
        "workshop garage factory",
        """
        mechanic : repair fix mend : car truck engine bicycle : wrench : broken damaged > ready
        carpenter : build make construct : chair table shelf bench : hammer : > strong sturdy
        carpenter : measure check : board plank log : ruler : long > ready
        painter : paint : door wall fence chair : brush : old grey > bright red
        worker : lift raise : box engine crate barrel : rope :
        mechanic worker : clean wash : engine car truck tool : cloth : dirty oily > clean spotless
        potter : shape form : vase bowl cup jar : : > smooth
        tailor : sew stitch : coat shirt jacket dress : needle : > ready
        """,
    ),
    "office": (
        "office bank @meeting",
        """
        clerk secretary : type write : letter report note : computer : urgent > ready
        manager : sign : letter contract report : pen : important > ready
        secretary clerk : answer : call letter question message : : urgent important > done
        lawyer manager : study examine : contract letter report : lamp : important >
        clerk : send mail post : letter parcel card : : ready > gone
        clerk : sort arrange : letter card file : : > neat tidy
        banker clerk : count : coin note file : :
        manager : hire employ : clerk secretary lawyer : : clever > happy
        """,
    ),
    "forest": (
        "forest camp valley",
        """
        ranger : follow track : deer fox wolf bear : lamp :
        ranger hiker : watch observe : owl eagle deer fox : telescope : rare beautiful >
        camper : light : fire candle lamp : match : > warm bright
        hiker camper : cross : river stream bridge : rope : narrow low >
        camper ranger : chop cut : log branch tree : axe : dry dead > short
        hiker : follow : path river stream : map :
        camper : heat warm : soup stew rice bean : pot : cold > hot
        ranger : rescue save : deer lamb hiker rabbit : rope : lost weak > safe
        """,
    ),
    "theatre": (
        "theatre cinema @show",
        """
        actor actress : rehearse practise : play scene song dance : : difficult long > perfect
        director : direct lead : play film scene : : > famous
        dancer : perform : dance waltz ballet : : famous lovely >
        magician : hide conceal : coin card rabbit scarf : cloth : small > gone
        actor dancer : wear : mask hat cloak crown : : beautiful >
        clown magician : amuse entertain : child crowd visitor : trick : bored sad > happy
        crowd : applaud cheer : actor singer dancer clown : : great >
        actress : learn study : part song scene poem : : long > perfect
        """,
    ),
    "home": (
        "house bedroom attic",
        """
        mother father : comfort calm soothe : baby child : song : sad afraid > calm happy
        father mother : cook prepare make : supper breakfast lunch : pan : late > ready delicious
        grandmother : knit : scarf sweater sock hat : needle : > warm ready
        grandfather : read : story newspaper letter book : lamp : interesting >
        child : hide : toy doll ball kite puzzle : blanket : new > gone
        mother father : wash clean : window shirt floor cup : cloth : dirty dusty > clean spotless
        father grandfather : repair fix mend : chair lamp roof door toy : hammer : broken > ready
        child grandmother : feed : cat dog rabbit parrot : : hungry > full calm
        """,
    ),
    "mountain": (
        "village hut valley",
        """
        climber : climb : mountain cliff hill tower : rope :
        skier climber : wear : glove jacket helmet scarf : : warm >
        climber : carry : tent bag sledge : rope :
        villager : clear clean : path road roof yard : shovel : icy snowy > clear
        child villager : build make : snowman tunnel wall sledge : shovel : > strong
        guide : rescue save : climber skier tourist dog : rope : lost cold > safe
        villager : heat warm : hut soup milk tea : : cold > warm hot
        guide : lead direct : climber skier tourist : map : lost tired > safe
        """,
    ),
    "zoo": (
        "@zoo aquarium park",
        """
        keeper : feed : lion tiger elephant monkey bear zebra : bucket : hungry > full calm
        keeper : wash clean : cage elephant pool tank : hose : dirty muddy > clean
        vet keeper : examine check : lion monkey zebra giraffe parrot : lamp : ill sick > healthy
        visitor : photograph : lion tiger giraffe camel eagle : camera : beautiful rare >
        trainer : teach train : parrot monkey dolphin seal : whistle : clever young > famous
        visitor child : watch observe : monkey penguin seal giraffe : : funny lovely >
        keeper : weigh : snake parrot penguin turtle : scale : young heavy >
        keeper trainer : call : monkey seal parrot dolphin : whistle : hungry shy > calm
        """,
    ),
}

# MNLI's "mismatched" sets come from these themes alone, its other sets never.
MISMATCHED_THEMES = "hospital workshop theatre mountain zoo"

# What a thing is: decides its adjectives. Every thing of a frame is in exactly one line, and so is
# every agent.
KINDS = {
    "person": "cook chef baker waiter farmer shepherd rider teacher pupil student sailor captain "
    "fisherman diver doctor nurse patient child visitor baby seller merchant customer porter "
    "musician singer composer drummer conductor player coach goalkeeper runner swimmer referee "
    "gardener neighbour traveller tourist driver pilot inspector librarian reader author guard "
    "mechanic carpenter painter worker potter tailor clerk secretary manager lawyer banker ranger "
    "hiker camper actor actress director dancer magician clown mother father grandmother "
    "grandfather climber skier villager guide keeper vet trainer",
    "group": "class choir orchestra band team crowd",
    "animal": "cow horse pig sheep goat hen donkey lamb pony salmon cod tuna trout crab whale "
    "dolphin deer fox wolf bear owl eagle rabbit cat dog parrot lion tiger elephant monkey zebra "
    "giraffe camel seal penguin snake turtle",
    "food": "bread cheese tomato onion carrot soup sauce stew batter cake pie biscuit dough loaf "
    "dessert tea corn egg apple pear plum potato melon bean berry cherry rice milk",
    "plant": "flower rose tulip daisy lily bush tree grass hedge",
    "artefact": "plate bowl pan cup kettle tractor cart truck wagon board desk "
    "table door window box book boat ship ferry canoe sail raft shell pearl coin "
    "anchor net tray blanket pillow basket carpet vase lamp hat present sack crate "
    "barrel bag guitar violin piano flute trumpet harp drum gong bell ball hoop stick medal "
    "ladder ticket map guidebook bus taxi car suitcase trunk parcel "
    "plane helicopter jet passport camera newspaper card magazine novel shelf diary painting mask "
    "cabinet chest engine bicycle chair bench plank tool jar coat shirt jacket dress letter "
    "contract report note file candle scarf cloak crown sweater sock toy doll kite puzzle "
    "glove helmet tent sledge picture",
    "other": "lesson poem rule story sentence exercise problem island wound throat knee foot song "
    "ballad tune waltz symphony album race prize match game pool lake river hole ditch pond path "
    "yard call question message fire stream play scene dance film ballet part mountain cliff hill "
    "road tunnel branch log hay wheat supper breakfast lunch medicine pill tablet",
    "building": "bed floor deck cabin wall castle tower bridge statue roof hut cage tank gate "
    "fence snowman mast oven",
}
MASS = "bread cheese soup sauce stew batter dough tea hay corn wheat rice milk medicine grass glue"

# "A robin is a bird."  In the lines marked with "some" the upper word takes no article.
HYPERNYMS = {
    "animal": "cow horse pig sheep goat donkey lamb pony deer fox wolf bear rabbit cat dog lion "
    "tiger elephant monkey zebra giraffe camel",
    "bird": "hen owl eagle parrot penguin",
    "fish": "salmon cod tuna trout",
    "some fruit": "apple pear plum melon cherry",
    "vegetable": "tomato onion carrot potato bean",
    "some food": "bread cheese soup stew cake pie biscuit rice",
    "flower": "rose tulip daisy lily",
    "instrument": "guitar violin piano flute trumpet harp drum",
    "vehicle": "tractor cart truck wagon bus taxi car bicycle",
    "vessel": "boat ship ferry canoe raft",
    "container": "box sack crate barrel bag basket suitcase trunk jar bowl",
    "some furniture": "desk table bed shelf cabinet chair bench",
    "some clothing": "hat coat shirt jacket dress scarf cloak sweater sock glove",
    "building": "castle tower hut",
    "toy": "doll kite puzzle",
    "aircraft": "plane helicopter jet",
}
TOOLS = (
    "knife spoon hammer brush net telescope mop broom spade saw ladder camera key wrench "
    "needle axe hose"
)

# Words for the same thing; the first of each line is the one that the frames use.
NOUN_SYNONYMS = (
    "present gift",
    "carpet rug",
    "shop store",
    "doctor physician",
    "child kid",
    "path trail",
    "film movie",
    "supper dinner",
    "bicycle bike",
    "story tale",
    "parcel package",
    "author writer",
    "spade shovel",
    "bucket pail",
    "merchant trader",
    "cup mug",
    "lamp lantern",
    "customer shopper",
    "prize award",
    "stream brook",
    "road street",
    "biscuit cookie",
    "taxi cab",
    "sweater pullover",
    "rabbit bunny",
    "painting artwork",
    "sledge sled",
)

# Adjectives as "dimensions": words for one end, words for the other, the kinds they describe.
DIMENSIONS = (
    ("big large huge", "small little tiny", "artefact animal plant building"),
    ("clean spotless", "dirty filthy muddy", "artefact animal building"),
    ("expensive costly", "cheap inexpensive", "artefact food"),
    ("wet damp soaked", "dry", "artefact animal plant"),
    ("heavy", "light", "artefact"),
    ("old ancient", "new", "artefact building"),
    ("hot warm", "cold chilly", "food"),
    ("calm peaceful quiet", "restless nervous", "animal"),
    ("fast quick", "slow", "animal"),
    ("happy glad cheerful joyful", "sad unhappy gloomy", "person"),
    ("tired weary exhausted", "lively energetic", "person"),
    ("kind friendly gentle", "rude unfriendly", "person"),
    ("clever smart bright", "foolish silly", "person"),
    ("brave bold fearless", "timid shy", "person"),
    ("rich wealthy", "poor", "person"),
    ("busy active", "lazy idle", "person"),
    ("strong powerful", "weak feeble", "person animal"),
    ("tall", "short", "person"),
    ("fresh", "stale", "food"),
    ("healthy", "sick ill", "person"),
)
# Greater, its opposite, and the kinds that can be compared so.
COMPARATIVES = (
    ("bigger", "smaller", "artefact animal plant building"),
    ("heavier", "lighter", "artefact animal"),
    ("older", "younger", "person animal"),
    ("older", "newer", "artefact building"),
    ("cheaper", "costlier", "artefact food"),
    ("cleaner", "dirtier", "artefact animal building"),
    ("faster", "slower", "person animal"),
    ("taller", "shorter", "person plant"),
    ("stronger", "weaker", "person animal"),
    ("richer", "poorer", "person"),
    ("happier", "sadder", "person"),
    ("braver", "shyer", "person"),
    ("warmer", "colder", "food"),
)
COLOURS = "red blue green yellow white black brown orange purple pink grey"
NUMBERS = "two three four five six seven eight nine ten"

# Polarity words by strength.  A star marks the words that SST-2's train set never shows: whoever
# wants them right must have met them in the text.
POSITIVE = (
    "good nice *fine *pleasant decent enjoyable *likeable solid",
    "great lovely *delightful *charming beautiful *splendid impressive *fascinating exciting",
    "wonderful *excellent *superb brilliant *fantastic amazing perfect *marvellous *outstanding "
    "magnificent *terrific *glorious",
)
NEGATIVE = (
    "bad poor *weak *dull mediocre disappointing *shabby bland",
    "boring *tedious *dreary annoying nasty *tiresome unpleasant *unbearable dismal",
    "awful *terrible *horrible dreadful *hopeless miserable horrid *appalling *disastrous "
    "ghastly *pathetic *wretched",
)
WOMEN = (
    "Anna Emma Maria Lucy Sarah Julia Clara Ella Nina Rosa Helen Alice Laura Grace Mary Jane Ruth "
    "Eva Ida Sofia"
)
MEN = (
    "Tom Ben Peter Paul David Jack Sam Henry Oscar Leo Max Adam Daniel George Simon Robert Martin "
    "Frank Karl Hugo"
)
FEMALE = "actress mother grandmother"
MALE = "fisherman waiter father grandfather"

# Moments that exclude each other.
MOMENTS = (
    "in the morning",
    "at noon",
    "in the afternoon",
    "in the evening",
    "at night",
)
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
WEATHER = (
    ("sunny warm bright mild", "the sun was shining", "the sky was blue"),
    ("rainy wet grey cloudy", "it was raining", "the clouds were dark"),
    ("cold snowy frosty icy", "it was snowing", "the ground was white"),
    ("windy stormy rough wild", "a strong wind was blowing", "the trees were shaking"),
)

IRREGULAR_PLURALS = {
    "sheep": "sheep",
    "salmon": "salmon",
    "cod": "cod",
    "tuna": "tuna",
    "trout": "trout",
    "fish": "fish",
    "deer": "deer",
    "wolf": "wolves",
    "shelf": "shelves",
    "loaf": "loaves",
    "child": "children",
    "fisherman": "fishermen",
    "snowman": "snowmen",
    "foot": "feet",
    "knife": "knives",
    "person": "people",
    "aircraft": "aircraft",
    "piano": "pianos",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "roof": "roofs",
}
# Past and participle where they are not the base form with "ed".
IRREGULAR_VERBS = {
    "beat": "beat beaten",
    "build": "built built",
    "buy": "bought bought",
    "bring": "brought brought",
    "catch": "caught caught",
    "choose": "chose chosen",
    "cut": "cut cut",
    "dig": "dug dug",
    "draw": "drew drawn",
    "drive": "drove driven",
    "eat": "ate eaten",
    "feed": "fed fed",
    "find": "found found",
    "fly": "flew flown",
    "forget": "forgot forgotten",
    "forgive": "forgave forgiven",
    "hide": "hid hidden",
    "hit": "hit hit",
    "lead": "led led",
    "light": "lit lit",
    "lose": "lost lost",
    "make": "made made",
    "read": "read read",
    "see": "saw seen",
    "sell": "sold sold",
    "send": "sent sent",
    "sew": "sewed sewn",
    "shut": "shut shut",
    "sing": "sang sung",
    "strike": "struck struck",
    "sweep": "swept swept",
    "take": "took taken",
    "teach": "taught taught",
    "throw": "threw thrown",
    "wear": "wore worn",
    "win": "won won",
    "write": "wrote written",
}
# Verbs that double their last letter before "ed" and "ing" (or before "ing" alone).
DOUBLING = "chop stir wrap stop drag scrub trim plan grab knit cut dig forget hit shut win rob mop"

# What the sentence patterns in the generator's code need beyond the words above.
FUNCTION_WORDS = (
    "each other friends good knew lived well one forgotten street "
    "after all also am believed another any anyone are avoid back be been before by come day did "
    "disliked do does each every few first forget forgot had has have he her him his hoped "
    "hour how if is last later manage managed many most much no none now often only perhaps "
    "plan planned refused remembered said same she slowly somebody something soon such that "
    "happened their them then they things think thought true twice use used want we went what "
    "when where whether which who why wish wished without word words wrong yes you"
)
